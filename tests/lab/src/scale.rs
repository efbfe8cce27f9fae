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
}
