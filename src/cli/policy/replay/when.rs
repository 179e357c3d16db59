//! Moments as people write them.
//!
//! Promises: a moment, the start of a day in UTC, or so long before now; anything else is refused
//! with what may be written. Called by `policy replay`.

/// Milliseconds since the Unix epoch.
pub(super) fn moment(text: &str, now_ms: i64) -> Result<i64, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_millisecond());
    }
    if let Ok(day) = text.parse::<jiff::civil::Date>() {
        let day = day.to_zoned(jiff::tz::TimeZone::UTC).map_err(|cause| cause.to_string())?;
        return Ok(day.timestamp().as_millisecond());
    }
    ago(text)
        .and_then(|ms| now_ms.checked_sub(ms))
        .ok_or_else(|| format!("`{text}` is no time; write 2026-11-20, 2026-11-20T18:00:00Z, or -24h for a day ago"))
}

/// `-24h`, `-90m`, `-7d`.
fn ago(text: &str) -> Option<i64> {
    let text = text.strip_prefix('-')?;
    let unit = text.chars().last()?;
    let number: i64 =
        text.strip_suffix(unit).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    number.checked_mul(seconds * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_a_day_and_so_long_ago_are_read_and_nothing_else_is() {
        let now = 1_790_000_000_000;
        assert_eq!(moment("2026-11-20", now), Ok(1_795_132_800_000));
        assert_eq!(moment("2026-11-20T18:00:00Z", now), Ok(1_795_197_600_000));
        assert_eq!(moment("-24h", now), Ok(now - 86_400_000));
        assert_eq!(moment("-2w", now), Ok(now - 14 * 86_400_000));
        for bad in ["", "-", "24h", "-h", "-24", "--24h", "-1.5h", "-99999999999999999h", "yesterday", "-5y", "-+5h"] {
            assert!(moment(bad, now).is_err(), "{bad}");
        }
    }
}
