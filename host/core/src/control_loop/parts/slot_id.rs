//! Which of the host's controllers.

/// Which of the host's controllers: an index that is valid for as long as the host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

impl SlotId {
    /// The smallest id.
    pub const FIRST: SlotId = SlotId(0);

    /// The position among all slots.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
