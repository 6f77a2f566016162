//! Why something could not be done to an environment.

use crate::redact::redacted;

/// Why something could not be done. Then nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One plain sentence.
    pub message: String,
    /// What the tool said; may be empty.
    pub log: String,
    /// It was given up.
    pub is_interrupt: bool,
    /// Trying again leads to the same.
    pub is_final: bool,
}

impl Failure {
    pub(super) fn new(message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self {
            message: redacted(&message).into_owned(),
            log: String::new(),
            is_interrupt: false,
            is_final: false,
        }
    }

    /// The sentence, and below it what the tool said.
    pub(super) fn told(&self) -> String {
        match self.log.trim_end() {
            "" => self.message.clone(),
            log => format!("{}\n{}", self.message, redacted(log)),
        }
    }

    pub(super) fn interrupt() -> Self {
        Self {
            is_interrupt: true,
            ..Self::new("It was given up, since it was interrupted or took too long.")
        }
    }
}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Self {
        let (message, log) = match error.message.split_once('\n') {
            Some((message, log)) => (message.to_owned(), log.to_owned()),
            None => (error.message, String::new()),
        };
        Self {
            log,
            ..Self::new(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn what_a_tool_said_is_told_with_the_sentence() {
        let failure = Failure::from(Error::user(
            "it failed. pip said:\nno https://u:p@x.org/ here\n",
        ));
        let told = failure.told();
        assert!(
            told.starts_with("it failed. pip said:\nno https://"),
            "{told}"
        );
        assert!(!told.contains("u:p"), "{told}");
        assert_eq!(Failure::new("x").told(), "x");
    }
}
