//! Pages of listings: 400 items at most, and a mark that stays right when items come and go between pages.

use crate::{
    Value,
    fault::{Code, Result},
    schema::{Field, Fields, Kind, TEXT, optional},
};

pub(super) const MARKER: Field = optional("Marker", TEXT);
pub(super) const PAGE_SIZE: Field = optional("PageSize", Kind::int(1, 400));
/// Makes marks look as little like numbers as AWS's do.
const VEIL: u64 = 0x5e1f_ca5e_0b5e_55ed;

/// The keys of one page out of all, which come in ascending order, and the mark of the next page.
pub(super) fn page<K: Into<u64> + Copy>(
    fields: &Fields,
    keys: impl IntoIterator<Item = K>,
) -> Result<(Vec<K>, Option<String>)> {
    let size = fields.number("PageSize").unwrap_or(400usize);
    let after = match fields.text("Marker").filter(|marker| !marker.is_empty()) {
        None => 0,
        Some(marker) => match u64::from_str_radix(marker, 16) {
            Ok(veiled) if marker.len() == 16 => veiled ^ VEIL,
            _ => return Code::ValidationError.refuse(format!("The marker '{marker}' is not valid")),
        },
    };
    let mut rest = keys.into_iter().filter(|key| (*key).into() > after);
    let page: Vec<K> = rest.by_ref().take(size).collect();
    let next = match page.last() {
        Some(last) if rest.next().is_some() => Some(format!("{:016x}", (*last).into() ^ VEIL)),
        _ => None,
    };
    Ok((page, next))
}

/// A result that is a list and perhaps the mark of the next page.
pub(super) fn listing(name: &'static str, items: impl Iterator<Item = Value>, next: Option<String>) -> Value {
    let mut fields = vec![(name, items.collect())];
    fields.extend(next.map(|mark| ("NextMarker", Value::from(mark))));
    Value::Record(fields)
}
