//! Defects that can be switched on, one at a time, to show that the simulation finds them. They exist only with the
//! feature `planted-bugs`, which nothing that ships has.

/// A defect. Each breaks one rule, and the simulation has to see it broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// An endpoint's pod is found by its name, whatever its UID (S1, S3).
    MatchByName,
    /// Gates are patched without looking at whose target it was (S1, S2).
    NoUid,
    /// A verdict that was asked for before the target was registered opens gates (S1).
    TrustCachedHealthy,
    /// Removals do not wait for every cache to be complete (S8).
    RemoveUnsynced,
    /// A removal whose reply was lost counts as done, without a look (A2).
    DropLostReply,
    /// `unavailable` and unknown states open gates (S12).
    UnavailableIsHealthy,
    /// `ValidationError` takes off the finalizer (S11).
    FinalizerOnValidationError,
    /// A refused batch is repeated whole (A4).
    NoHalving,
    /// Writes carry the fence of no leadership, and go out while following (S9).
    NoFence,
    /// Tags are read once and for all (S4).
    StaleTags,
    /// Throttled calls make the next wait longer, as failures do (A1).
    ThrottleIsFailure,
    /// What failed is tried again only when something changes (L1).
    EdgeTriggered,
    /// The last target, or most of them, leave without a second look (S7).
    NoBrake,
    /// A failed look closes gates (S12).
    FlipOnReadError,
    /// Older versions of an object replace newer ones (K1).
    AcceptOlderRevision,
    /// A relist empties the cache first (K9).
    ClearOnRelist,
    /// Targets of others in a shared group are removed too (S5).
    RemoveForeign,
    /// A pod that takes over an address gets the verdict on the one before (S1).
    NoTakeoverWait,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::MatchByName,
        Self::NoUid,
        Self::TrustCachedHealthy,
        Self::RemoveUnsynced,
        Self::DropLostReply,
        Self::UnavailableIsHealthy,
        Self::FinalizerOnValidationError,
        Self::NoHalving,
        Self::NoFence,
        Self::StaleTags,
        Self::ThrottleIsFailure,
        Self::EdgeTriggered,
        Self::NoBrake,
        Self::FlipOnReadError,
        Self::AcceptOlderRevision,
        Self::ClearOnRelist,
        Self::RemoveForeign,
        Self::NoTakeoverWait,
    ];
}
