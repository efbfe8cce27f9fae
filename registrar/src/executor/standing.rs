//! Whether a write may still be sent: the last look before it leaves.

use std::time::Duration;

use registrar_core::event::Fence;

use crate::leadership::Standing;

/// How long a call to AWS or the API server may take at most. It is sent only if leadership lasts longer than that.
pub const CALL: Duration = Duration::from_secs(5);

/// Why a write is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    /// Another leadership decided it.
    #[error("it was decided under leadership {decided}, which is over")]
    Over {
        /// Under which it was decided.
        decided: Fence,
    },
    /// The lease might run out while it is under way.
    #[error("leadership is certain for {left:?} only, and a call may take {CALL:?}")]
    Short {
        /// What is left.
        left: Duration,
    },
    /// It is too late for anybody to want it.
    #[error("its deadline has passed")]
    Late,
}

/// How long an effect may take that is sent at `now`. `fence` is that of a write, nothing for a read.
pub fn allowance(
    standing: Standing,
    fence: Option<Fence>,
    deadline: Duration,
    now: Duration,
) -> Result<Duration, Barred> {
    let wanted = deadline.checked_sub(now).filter(|left| !left.is_zero()).ok_or(Barred::Late)?;
    let Some(decided) = fence else { return Ok(wanted) };
    match standing {
        Standing::Leading { fence, until } if fence == decided => {
            let left = until.saturating_sub(now);
            if left > CALL { Ok(wanted.min(CALL)) } else { Err(Barred::Short { left }) }
        }
        _ => Err(Barred::Over { decided }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn write_is_sent_only_under_its_own_leadership_and_with_time_to_spare() {
        let leading = Standing::Leading { fence: 2, until: at(20) };
        let cases = [
            (leading, Some(2), 60, Ok(CALL)),
            (leading, Some(2), 12, Ok(at(2))),
            (leading, Some(1), 60, Err(Barred::Over { decided: 1 })),
            (Standing::Following, Some(2), 60, Err(Barred::Over { decided: 2 })),
            (Standing::Leading { fence: 2, until: at(15) }, Some(2), 60, Err(Barred::Short { left: at(5) })),
            (Standing::Leading { fence: 2, until: at(9) }, Some(2), 60, Err(Barred::Short { left: at(0) })),
            (leading, Some(2), 10, Err(Barred::Late)),
            (Standing::Following, None, 10, Err(Barred::Late)),
            (Standing::Following, None, 60, Ok(at(50))),
        ];
        for (standing, fence, deadline, expected) in cases {
            assert_eq!(allowance(standing, fence, at(deadline), at(10)), expected, "{standing:?} {fence:?} {deadline}");
        }
    }
}
