//! The one time scale: how much faster than the wall clock the nodes' clocks run.

use std::{str::FromStr, time::Duration};

/// Divides durations of specs into real ones. Finite and greater than zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale(f64);

impl Scale {
    /// How long the wall clock runs while the lab's runs `duration`.
    pub fn real(self, duration: Duration) -> Duration {
        duration.div_f64(self.0)
    }

    /// How long the lab's clock runs while the wall clock runs `duration`.
    pub fn scaled(self, duration: Duration) -> Duration {
        duration.mul_f64(self.0)
    }

    /// How many times faster than the wall clock.
    pub fn factor(self) -> f64 {
        self.0
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self(1.0)
    }
}

impl FromStr for Scale {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(factor) if (0.001..=10_000.0).contains(&factor) => Ok(Self(factor)),
            _ => Err(format!("`{text}` is not a time scale: a number from 0.001 to 10000, for example 20")),
        }
    }
}

/// Reads `250ms`, `30s`, `2m`, `1h` or a plain number of seconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let number: f64 = digits.parse().ok()?;
    Duration::try_from_secs_f64(number * unit).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_shortens_real_time_and_refuses_what_is_no_factor() {
        let scale: Scale = "20".parse().expect("a factor");
        assert_eq!(scale.real(Duration::from_secs(30)), Duration::from_millis(1500));
        assert_eq!(scale.scaled(Duration::from_millis(1500)), Duration::from_secs(30));
        for text in ["0", "-1", "NaN", "inf", "fast", ""] {
            text.parse::<Scale>().expect_err(text);
        }
    }

    #[test]
    fn durations_have_units_and_bad_ones_are_none() {
        for (text, millis) in [("250ms", 250), ("30s", 30_000), ("2m", 120_000), ("1.5", 1500), ("1h", 3_600_000)] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "s", "-1s", "1d", "one", "1e300h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
