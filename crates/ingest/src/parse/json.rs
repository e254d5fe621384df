//! A cursor over JSON that the caller knows the shape of: it walks, and materialises nothing.

use std::fmt;

use memchr::{memchr, memchr2};

/// Where and why a text is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} (byte {offset}): {reason}")]
pub struct ParseError {
    /// The field, from the outside in: `transactions[3].input`.
    pub path: String,
    /// Byte of the text at which it was noticed.
    pub offset: usize,
    /// What is wrong there.
    pub reason: String,
}

/// What is wrong, before it is known in which field.
#[derive(Debug)]
pub(crate) struct Fault {
    offset: usize,
    reason: String,
    /// The fields from the inside out.
    path: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Field(&'static str),
    Index(usize),
}

impl Fault {
    pub(crate) fn new(offset: usize, reason: impl fmt::Display) -> Self {
        Self { offset, reason: reason.to_string(), path: Vec::new() }
    }

    /// Says in which field it happened.
    #[cold]
    pub(crate) fn in_field(mut self, name: &'static str) -> Self {
        self.path.push(Step::Field(name));
        self
    }

    #[cold]
    fn at_index(mut self, index: usize) -> Self {
        self.path.push(Step::Index(index));
        self
    }

    pub(crate) fn into_error(self, root: &str) -> ParseError {
        let mut path = root.to_owned();
        for step in self.path.iter().rev() {
            match step {
                Step::Field(name) => path.extend([".", name]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        ParseError { path, offset: self.offset, reason: self.reason }
    }
}

pub(crate) type Parsed<T> = Result<T, Fault>;

/// A position in a JSON text.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

/// The fields that the objects of a list have had, each as it is written (`"key":`), in their order. A node writes
/// the same ones in the same order, object after object, so that a key is seldom searched for: it is the next one, or
/// one after it where some are left out.
#[derive(Debug)]
pub(crate) struct Layout<'a, F> {
    keys: Vec<(&'a [u8], F)>,
}

impl<F> Default for Layout<'_, F> {
    fn default() -> Self {
        Self { keys: Vec::with_capacity(MOST_KEYS) }
    }
}

/// More keys than this are read, but not remembered. A transaction has about twenty.
const MOST_KEYS: usize = 32;

/// Objects and lists inside a value that is skipped; deeper ones are refused.
const DEEPEST: usize = 64;

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// Bytes of the whole text.
    pub(crate) fn length(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn fault<T>(&self, reason: impl fmt::Display) -> Parsed<T> {
        Err(Fault::new(self.at, reason))
    }

    /// Nothing but white space may follow.
    pub(crate) fn end(&mut self) -> Parsed<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fault("something follows the value"),
        }
    }

    /// Walks an object; `field` is given each key, with the cursor before its value, which it must consume.
    #[inline]
    pub(crate) fn object(&mut self, mut field: impl FnMut(&mut Self, &'a [u8]) -> Parsed<()>) -> Parsed<()> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            field(self, key)?;
            if self.take(b',') {
                continue;
            }
            return self.expect(b'}');
        }
    }

    /// Walks an object of a list of alike objects. `name` says which field a key is; `field` is given it, with the
    /// cursor before its value, which it must consume.
    #[inline]
    pub(crate) fn alike<F: Copy>(
        &mut self,
        layout: &mut Layout<'a, F>,
        name: impl Fn(&[u8]) -> F,
        mut field: impl FnMut(&mut Self, F) -> Parsed<()>,
    ) -> Parsed<()> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        let mut place = 0;
        loop {
            self.skip_space();
            let rest = &self.text[self.at..];
            let known = layout.keys.get(place..).unwrap_or_default();
            let found = match known.iter().position(|(key, _)| rest.starts_with(key)) {
                Some(further) => {
                    place += further;
                    let (key, found) = layout.keys[place];
                    self.at += key.len();
                    found
                }
                None => self.new_key(layout, place, &name)?,
            };
            place += 1;
            field(self, found)?;
            if self.take(b',') {
                continue;
            }
            return self.expect(b'}');
        }
    }

    #[cold]
    fn new_key<F>(&mut self, layout: &mut Layout<'a, F>, place: usize, name: impl Fn(&[u8]) -> F) -> Parsed<F>
    where
        F: Copy,
    {
        let start = self.at;
        let found = name(self.string()?);
        self.expect(b':')?;
        if layout.keys.len() < MOST_KEYS {
            layout.keys.insert(place, (&self.text[start..self.at], found));
        }
        Ok(found)
    }

    /// Walks a list; `item` must consume one value.
    #[inline]
    pub(crate) fn list(&mut self, item: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        self.expect(b'[')?;
        if self.take(b']') {
            return Ok(());
        }
        self.items(item)?;
        self.expect(b']')
    }

    /// Walks what stands between the brackets of a list that is not empty.
    #[inline]
    pub(crate) fn items(&mut self, mut item: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        for index in 0.. {
            item(self).map_err(|fault| fault.at_index(index))?;
            if !self.take(b',') {
                break;
            }
        }
        Ok(())
    }

    /// A string without escapes, as all that we read are; the quotes are not part of it.
    #[inline]
    pub(crate) fn string(&mut self) -> Parsed<&'a [u8]> {
        self.expect(b'"')?;
        let rest = &self.text[self.at..];
        let Some(length) = memchr(b'"', rest) else { return self.fault("the string does not end") };
        let string = &rest[..length];
        if string.last() == Some(&b'\\') {
            return self.fault("an escape where none belongs");
        }
        self.at += length + 1;
        Ok(string)
    }

    /// The string that is next if it has this length, found without searching for its end. Whether it is one string is
    /// for the caller to see: a quote inside is no digit.
    #[inline]
    pub(crate) fn string_of(&mut self, length: usize) -> Option<&'a [u8]> {
        self.skip_space();
        let quoted = self.text.get(self.at..self.at + length + 2)?;
        let [b'"', string @ .., b'"'] = quoted else { return None };
        self.at += length + 2;
        Some(string)
    }

    /// Consumes a `null` if one is next.
    #[inline]
    pub(crate) fn null(&mut self) -> bool {
        self.skip_space();
        let is_null = self.text[self.at..].starts_with(b"null");
        self.at += 4 * usize::from(is_null);
        is_null
    }

    /// Passes over a value of any shape.
    #[inline]
    pub(crate) fn skip(&mut self) -> Parsed<()> {
        self.skip_at_depth(0)
    }

    fn skip_at_depth(&mut self, depth: usize) -> Parsed<()> {
        if depth > DEEPEST {
            return self.fault("too deeply nested");
        }
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{') => self.skip_object(depth),
            Some(b'[') => self.list(|cursor| cursor.skip_at_depth(depth + 1)),
            Some(_) => self.skip_scalar(),
            None => self.fault("the text ends where a value should be"),
        }
    }

    fn skip_object(&mut self, depth: usize) -> Parsed<()> {
        self.expect(b'{')?;
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.skip_space();
            self.skip_string()?;
            self.expect(b':')?;
            self.skip_at_depth(depth + 1)?;
            if self.take(b',') {
                continue;
            }
            return self.expect(b'}');
        }
    }

    fn skip_string(&mut self) -> Parsed<()> {
        self.expect(b'"')?;
        loop {
            match memchr2(b'"', b'\\', &self.text[self.at..]) {
                Some(length) if self.text[self.at + length] == b'"' => {
                    self.at += length + 1;
                    return Ok(());
                }
                Some(length) => {
                    self.at += length;
                    self.skip_escape()?;
                }
                None => return self.fault("the string does not end"),
            }
        }
    }

    /// What RFC 8259 allows behind a backslash.
    fn skip_escape(&mut self) -> Parsed<()> {
        let length = match self.text[self.at + 1..] {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return self.fault("no escape"),
        };
        self.at += length;
        Ok(())
    }

    fn skip_scalar(&mut self) -> Parsed<()> {
        let rest = &self.text[self.at..];
        let length =
            rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        let scalar = &rest[..length];
        if !matches!(scalar, b"true" | b"false" | b"null") && !is_number(scalar) {
            return self.fault("no value");
        }
        self.at += length;
        Ok(())
    }

    /// The next byte that is not white space, not consumed.
    #[inline]
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.skip_space();
        self.text.get(self.at).copied()
    }

    #[inline]
    fn take(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    #[inline]
    pub(crate) fn expect(&mut self, wanted: u8) -> Parsed<()> {
        if self.take(wanted) {
            return Ok(());
        }
        self.unexpected(wanted)
    }

    #[cold]
    fn unexpected(&self, wanted: u8) -> Parsed<()> {
        match self.text.get(self.at) {
            Some(found) => {
                self.fault(format_args!("'{}' instead of '{}'", found.escape_ascii(), wanted.escape_ascii()))
            }
            None => self.fault(format_args!("the text ends where '{}' should be", wanted.escape_ascii())),
        }
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
    }
}

/// RFC 8259, section 6.
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text[0] == b'0') {
        return false;
    }
    let mut rest = &text[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = &fraction[length..];
    }
    match rest.split_first() {
        None => true,
        Some((b'e' | b'E', exponent)) => {
            let exponent = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
        Some(_) => false,
    }
}
