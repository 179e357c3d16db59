//! Durations and sizes as people write them: `30s`, `1h 30m`, `128MiB`.

use std::time::Duration;

/// A duration with its unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let fault = |_| format!("`{text}` is not a duration");
    let span: jiff::Span = text.parse().map_err(fault)?;
    // A day is 24 hours here, whatever a calendar says.
    let span = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(fault)?;
    Duration::try_from(span).map_err(|_| format!("`{text}` is negative"))
}

/// A size with its unit, in bytes. Units are binary: `KiB`, `MiB`, `GiB`, or `B`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let fault = || format!("`{text}` is not a size");
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = text.strip_prefix(digits.as_str()).unwrap_or_default().trim();
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(fault()),
    };
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_people_write_them() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("30d"), Ok(Duration::from_hours(720)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(size("128MiB"), Ok(134_217_728));
        assert_eq!(size("64 KiB"), Ok(65_536));
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for text in ["30", "-5s", "-5d", "s", "", "1e3s", "1 month"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["30", "-5MiB", "MiB", "", "5MB", "99999999999999999999GiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
