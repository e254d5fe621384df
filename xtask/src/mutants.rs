//! Named breakages: each is planted in a copy of the tree, and the tests must turn red.
//!
//! A mutant names the tests of the suite that ought to notice, so that trying one does not take the whole suite; red there
//! is red in the suite. Before any is planted, all of these tests are run on the unbroken copy and must be green.

mod list;

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write, stdout};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use self::list::MUTANTS;
use crate::{cargo, succeed};

/// Tests that take longer hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// A breakage.
struct Mutant {
    name: &'static str,
    file: &'static str,
    /// Stands exactly once in the file.
    original: &'static str,
    broken: &'static str,
    /// The package whose tests ought to notice.
    package: &'static str,
    /// Which of them, as nextest filters names; empty for all.
    tests: &'static str,
}

impl Mutant {
    /// The file in which it is planted, as it is without it.
    fn unbroken(&self, root: &Path) -> anyhow::Result<String> {
        let text =
            fs::read_to_string(root.join(self.file)).with_context(|| format!("reading {}", self.file))?;
        let places = text.matches(self.original).count();
        ensure!(places == 1, "{}: its place is in {} {places} times", self.name, self.file);
        Ok(text)
    }
}

/// Plants each, or those named.
pub(crate) fn run(names: &[String]) -> anyhow::Result<()> {
    if names == ["--list"] {
        return list();
    }
    if let Some(unknown) = names.iter().find(|name| MUTANTS.iter().all(|mutant| mutant.name != **name)) {
        bail!("there is no mutant {unknown:?}; `cargo xtask mutants --list` names them");
    }
    let chosen: Vec<_> = MUTANTS
        .iter()
        .filter(|mutant| names.is_empty() || names.iter().any(|name| name == mutant.name))
        .collect();
    let copy = Copy::of_the_tree()?;
    copy.must_be_green(&chosen)?;
    let mut survivors = Vec::new();
    for mutant in &chosen {
        let started = now();
        let red = copy.turns_red(mutant)?;
        let verdict = if red { "red" } else { "SURVIVED" };
        println!("{verdict:9} {:32} {:5.1} s", mutant.name, started.elapsed().as_secs_f64());
        if !red {
            survivors.push(mutant.name);
        }
    }
    println!("{} mutants planted, {} turned the tests red", chosen.len(), chosen.len() - survivors.len());
    ensure!(survivors.is_empty(), "nobody noticed: {}", survivors.join(", "));
    Ok(())
}

/// Whoever reads only the first lines closes the pipe, and that is no failure.
fn list() -> anyhow::Result<()> {
    let mut out = stdout().lock();
    match MUTANTS.iter().try_for_each(|mutant| writeln!(out, "{:32} {}", mutant.name, mutant.file)) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this tool depends on no Headwater crate, and so not on its clock"
)]
fn now() -> Instant {
    Instant::now()
}

/// A copy of the tree, with a target directory of its own.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

/// The tests that need shuttle.
const SCHEDULES: &str = "schedules";

impl Copy {
    /// What git knows of, and what is new and not ignored, as it is in the working tree.
    fn of_the_tree() -> anyhow::Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let base = source.join("target/mutants");
        let root = base.join("tree");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        let listed = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&source)
            .output()
            .context("asking git for the files of the tree")?;
        ensure!(listed.status.success(), "git does not list the files of the tree");
        for file in String::from_utf8(listed.stdout)?.lines().filter(|file| source.join(file).is_file()) {
            let to = root.join(file);
            fs::create_dir_all(to.parent().context("a file has a folder")?)?;
            fs::copy(source.join(file), to).with_context(|| format!("copying {file}"))?;
        }
        Ok(Self { root, target: base.join("target") })
    }

    fn must_be_green(&self, mutants: &[&Mutant]) -> anyhow::Result<()> {
        let suites: BTreeSet<_> = mutants.iter().map(|mutant| (mutant.package, mutant.tests)).collect();
        for (package, tests) in suites {
            println!("unbroken  {package} {tests}");
            succeed(&mut self.tests(package, tests))
                .with_context(|| format!("{package} {tests:?} is red before anything is broken"))?;
        }
        Ok(())
    }

    /// Whether the tests notice. A mutant that does not compile, or whose place is not found, is an error.
    fn turns_red(&self, mutant: &Mutant) -> anyhow::Result<bool> {
        let (file, text) = (self.root.join(mutant.file), mutant.unbroken(&self.root)?);
        fs::write(&file, text.replace(mutant.original, mutant.broken))?;
        let verdict = self.verdict(mutant);
        fs::write(&file, text)?;
        verdict
    }

    fn verdict(&self, mutant: &Mutant) -> anyhow::Result<bool> {
        let mut build = self.tests(mutant.package, mutant.tests);
        build.arg("--no-run").stdout(Stdio::null()).stderr(Stdio::null());
        succeed(&mut build).with_context(|| format!("{} does not compile", mutant.name))?;
        let mut tests = self.tests(mutant.package, mutant.tests);
        let mut tests = tests.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()?;
        let deadline = now() + PATIENCE;
        loop {
            if let Some(status) = tests.try_wait()? {
                return Ok(!status.success());
            }
            if now() > deadline {
                // What waits for something that was lost waits for ever: that is noticed as well.
                let group = format!("-{}", tests.id());
                succeed(Command::new("kill").args(["-KILL", "--", &group]))?;
                tests.wait()?;
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn tests(&self, package: &str, tests: &str) -> Command {
        let mut command = cargo(&["test", "--quiet", "--package", package, "--lib", "--tests"]);
        if package == "headwater-tests" {
            command = cargo(&["test", "--quiet", "--package", package, "--test", "it"]);
        }
        if tests == SCHEDULES {
            command = cargo(&["test", "--quiet", "--package", package, "--features", "shuttle", "--lib"]);
        }
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        if !tests.is_empty() {
            command.arg(tests);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_has_its_place() -> anyhow::Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        MUTANTS.iter().try_for_each(|mutant| mutant.unbroken(&root).map(drop))
    }
}
