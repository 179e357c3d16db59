//! What a world may have wrong on purpose, to show that the checker sees it.

/// One promise that one part does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The ledger does not keep that a write was sent.
    LedgerForgetsSent,
    /// The ledger takes a settlement from whoever brings one.
    LedgerWithoutFences,
    /// The ledger takes what was sent for not sent, once its lease has run out.
    LeaseMeansAgain,
    /// An approval is never used up.
    ApprovalForEver,
    /// The client of the backend sends a write again when its answer is lost.
    SendsAgain,
    /// The client of the backend sends what it should have sent long ago.
    SendsTooLate,
    /// The backend does again what it promised to do once.
    DishonoursKeys,
    /// The journal says yes to records that it never writes.
    JournalForgets,
    /// Nobody waits for copies that may be on their way.
    Hasty,
}
