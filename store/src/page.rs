//! Lists in pages. A page token says where the next page begins, by the values that
//! the list is sorted by, so rows that come and go in between shift nothing.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tideway_core::{Error, Result};
use uuid::Uuid;

/// How many rows, and from where on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// At least 1.
    pub limit: u32,
    /// `next` of the page before.
    pub token: Option<String>,
}

impl PageRequest {
    pub fn new(limit: u32, token: Option<&str>) -> Self {
        PageRequest {
            limit: limit.max(1),
            token: token.map(str::to_owned),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The token of the next page; `None` on the last.
    pub next: Option<String>,
}

/// The last row of a page: its time and, among equal times, its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    at: i64,
    id: Uuid,
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: u16,
    list: String,
    #[serde(flatten)]
    place: Place,
}

const VERSION: u16 = 1;

impl Place {
    pub fn new(at: DateTime<Utc>, id: Uuid) -> Self {
        Place {
            at: at.timestamp_micros(),
            id,
        }
    }

    /// Times before and after everything, for the first page.
    pub fn end(ascending: bool) -> Self {
        match ascending {
            true => Place {
                at: i64::MIN,
                id: Uuid::nil(),
            },
            false => Place {
                at: i64::MAX,
                id: Uuid::max(),
            },
        }
    }

    pub fn at(&self) -> i64 {
        self.at
    }

    pub fn id(&self) -> Uuid {
        self.id
    }
}

/// Where the page begins. `list` names the list and its order: a token of another one
/// is refused.
pub(crate) fn begin(request: &PageRequest, list: &str, ascending: bool) -> Result<Place> {
    let Some(text) = request.token.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(Place::end(ascending));
    };
    let token = URL_SAFE_NO_PAD.decode(text).ok();
    let token = token.and_then(|bytes| serde_json::from_slice::<Token>(&bytes).ok());
    match token {
        Some(token) if token.v == VERSION && token.list == list => Ok(token.place),
        _ => Err(
            Error::config("the page token is not one that this list gave")
                .hint("leave page_token out to begin with the first page")
                .field("page_token"),
        ),
    }
}

/// Cuts the page out of one row more than its limit, which tells whether more follow.
pub(crate) fn end<T>(
    mut items: Vec<T>,
    request: &PageRequest,
    list: &str,
    place: impl Fn(&T) -> Place,
) -> Page<T> {
    let limit = request.limit as usize;
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| more);
    let next = last.map(|last| {
        let token = Token {
            v: VERSION,
            list: list.to_owned(),
            place: place(last),
        };
        let json = serde_json::to_vec(&token).unwrap_or_default();
        URL_SAFE_NO_PAD.encode(json)
    });
    Page { items, next }
}
