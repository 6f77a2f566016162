//! A length of time on the command line.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

/// Reads `90s`, `1h 30m`, `2d`; a number alone is seconds.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let span = || {
        let span: Span = text.parse().ok()?;
        let duration = span.to_duration(SpanRelativeTo::days_are_24_hours());
        Duration::try_from(duration.ok()?).ok()
    };
    let time = seconds.or_else(span);
    time.ok_or_else(|| "it is a time in hours, minutes or seconds, as in 600s or 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_seconds() {
        assert_eq!(parse("600s"), Ok(Duration::from_secs(600)));
        assert_eq!(parse("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("90"), Ok(Duration::from_secs(90)));
        for odd in ["", "-1s", "-1", "x", "1 parsec", "99999999999999999999"] {
            assert!(parse(odd).is_err(), "{odd}");
        }
    }
}
