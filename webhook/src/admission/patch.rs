//! JSON patches that apply to whatever the object holds: missing parents are made, lists are only appended to.
//!
//! A patch that does not apply makes the API server refuse the pod even where the failure policy is `Ignore`, so every
//! operation here is chosen by what the object has, and none reads a value.

use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, jsonptr::PointerBuf};
use serde_json::Value;

/// A patch under construction.
#[derive(Debug, Default)]
pub struct Builder {
    operations: Vec<PatchOperation>,
}

/// One step of the way to a field.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// Into a field.
    Field(&'a str),
    /// Into an entry of a list.
    Entry(usize),
    /// Behind the last entry of a list.
    End,
}

fn pointer(path: &[Step]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().map(|step| match step {
        Step::Field(name) => (*name).to_owned(),
        Step::Entry(index) => index.to_string(),
        Step::End => "-".to_owned(),
    }))
}

impl Builder {
    /// Sets a field of an object that is there, whether it has the field or not.
    pub fn set(&mut self, path: &[Step], value: Value) {
        self.operations.push(PatchOperation::Add(AddOperation { path: pointer(path), value }));
    }

    /// Appends to a list, which is made if it is not `present`.
    pub fn append(&mut self, list: &[Step], present: bool, entries: Vec<Value>) {
        if present {
            let end = [list, &[Step::End]].concat();
            for entry in entries {
                self.set(&end, entry);
            }
        } else if !entries.is_empty() {
            self.set(list, Value::Array(entries));
        }
    }

    /// Takes entries out of a list that is there.
    pub fn remove(&mut self, list: &[Step], mut positions: Vec<usize>) {
        // From behind, so that what goes first does not move the others.
        positions.sort_unstable_by(|one, other| other.cmp(one));
        for position in positions {
            let path = pointer(&[list, &[Step::Entry(position)]].concat());
            self.operations.push(PatchOperation::Remove(RemoveOperation { path }));
        }
    }

    /// The patch; empty if nothing changes.
    pub fn build(self) -> Patch {
        Patch(self.operations)
    }
}
