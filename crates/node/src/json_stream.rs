//! Messages out of a byte stream without frames: the IPC socket.
//!
//! Nodes write one JSON value after the other, with or without a newline between them. The splitter follows braces and
//! strings, so it needs neither, and it looks at each byte once however the chunks fall.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// What came out of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A whole object or list (by its brackets; whether it is JSON is for the parser to say).
    Value(Bytes),
    /// Bytes in which no value can begin, up to the next line or value.
    Garbage(usize),
}

/// The stream holds more than a message may have.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Cuts a byte stream into values.
#[derive(Debug)]
pub(crate) struct Splitter {
    buffer: BytesMut,
    /// Bytes of the buffer that have been looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    limit: usize,
}

impl Splitter {
    pub(crate) fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), seen: 0, depth: 0, in_string: false, limit }
    }

    /// Where the next bytes of the stream go.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next piece, or `None` until more bytes have come.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Piece>, TooLarge> {
        if self.depth == 0 {
            self.drop_space();
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'{' | b'[') => {}
                Some(_) => return Ok(Some(self.garbage())),
            }
        }
        match self.end_of_value() {
            Some(end) if end <= self.limit => Ok(Some(Piece::Value(self.cut(end)))),
            None if self.buffer.len() <= self.limit => Ok(None),
            _ => Err(TooLarge),
        }
    }

    fn drop_space(&mut self) {
        let space = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let _ = self.buffer.split_to(space);
    }

    fn garbage(&mut self) -> Piece {
        let end = self.buffer.iter().position(|byte| matches!(byte, b'\n' | b'{' | b'['));
        let end = end.unwrap_or(self.buffer.len());
        let _ = self.buffer.split_to(end);
        Piece::Garbage(end)
    }

    fn cut(&mut self, end: usize) -> Bytes {
        self.seen = 0;
        self.buffer.split_to(end).freeze()
    }

    /// Looks at the unseen bytes until the brackets are balanced.
    fn end_of_value(&mut self) -> Option<usize> {
        loop {
            let unseen = &self.buffer[self.seen..];
            if self.in_string {
                let Some(at) = memchr2(b'"', b'\\', unseen) else {
                    self.seen = self.buffer.len();
                    return None;
                };
                if unseen[at] == b'"' {
                    self.in_string = false;
                    self.seen += at + 1;
                } else if at + 1 < unseen.len() {
                    self.seen += at + 2;
                } else {
                    // The escaped byte has not come yet: the backslash is looked at again.
                    self.seen += at;
                    return None;
                }
                continue;
            }
            let &byte = unseen.first()?;
            self.seen += 1;
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(self.seen);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds the stream in chunks of the given size and collects what comes out.
    fn split(stream: &[u8], chunk: usize) -> Vec<Piece> {
        let mut splitter = Splitter::new(1024);
        let mut pieces = Vec::new();
        for bytes in stream.chunks(chunk) {
            splitter.buffer().extend_from_slice(bytes);
            while let Some(piece) = splitter.next_piece().expect("within the limit") {
                pieces.push(piece);
            }
        }
        pieces
    }

    fn values(texts: &[&str]) -> Vec<Piece> {
        texts.iter().map(|text| Piece::Value(Bytes::copy_from_slice(text.as_bytes()))).collect()
    }

    #[test]
    fn values_come_out_with_and_without_newlines_however_the_chunks_fall() {
        let stream = br#" {"a":"}]\\\"{"}{"b":[1,{}]}
[{"c":"\u007b"}]   {"d":1}"#;
        let expected = [r#"{"a":"}]\\\"{"}"#, r#"{"b":[1,{}]}"#, r#"[{"c":"\u007b"}]"#, r#"{"d":1}"#];
        for chunk in 1..=stream.len() {
            assert_eq!(split(stream, chunk), values(&expected), "chunks of {chunk}");
        }
    }

    #[test]
    fn garbage_between_values_is_reported_and_passed_over() {
        let pieces = split(b"HTTP/1.1 400\r\n{\"a\":1}oops{\"b\":2}", 1024);
        assert_eq!(pieces[0], Piece::Garbage(13));
        assert_eq!(pieces[1..2], values(&[r#"{"a":1}"#])[..]);
        assert_eq!(pieces[2], Piece::Garbage(4));
        assert_eq!(pieces[3..], values(&[r#"{"b":2}"#])[..]);
    }

    #[test]
    fn a_value_beyond_the_limit_is_refused_before_it_is_whole() {
        let mut splitter = Splitter::new(16);
        splitter.buffer().extend_from_slice(br#"{"a":"0123456789"#);
        assert_eq!(splitter.next_piece(), Ok(None));
        splitter.buffer().extend_from_slice(b"0");
        assert_eq!(splitter.next_piece(), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_splitter_panic_or_lose_a_byte(
            stream in prop::collection::vec(prop_oneof![Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'), Just(b'\\'), any::<u8>()], 0..200),
            chunk in 1usize..64,
        ) {
            let total: usize = split(&stream, chunk).iter().map(|piece| match piece {
                Piece::Value(bytes) => bytes.len(),
                Piece::Garbage(count) => *count,
            }).sum();
            prop_assert!(total <= stream.len());
        }
    }
}
