use std::fmt;

use headwater_actor::Fatal;

/// Why a command failed, as the exit code tells it.
#[derive(Debug)]
pub enum Failure {
    /// Bad usage or configuration: exit code 2.
    Usage(anyhow::Error),
    /// A failure at run time: exit code 1.
    Runtime(anyhow::Error),
    /// A component kept failing and was given up: exit code 3.
    GivenUp(Fatal),
}

impl Failure {
    /// Bad usage or configuration.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    /// A failure at run time.
    pub fn runtime(error: impl Into<anyhow::Error>) -> Self {
        Self::Runtime(error.into())
    }

    /// An actor was given up. That a source says it cannot go on, as on another chain, is a failure like any other; that a
    /// component keeps failing is not.
    pub(crate) fn given_up(fatal: Fatal, source: &str) -> Self {
        match fatal.by_its_own_word && fatal.actor == source {
            true => Self::Runtime(fatal.into()),
            false => Self::GivenUp(fatal),
        }
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Runtime(_) => 1,
            Self::Usage(_) => 2,
            Self::GivenUp(_) => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GivenUp(fatal) => write!(f, "{fatal}"),
            Self::Usage(error) | Self::Runtime(error) => {
                let mut said = error.to_string();
                // Some messages contain their cause already.
                for cause in error.chain().skip(1).map(ToString::to_string) {
                    if !said.contains(&cause) {
                        said = format!("{said}: {cause}");
                    }
                }
                f.write_str(&said)
            }
        }
    }
}
