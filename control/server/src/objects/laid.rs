//! Whether a store holds anything, and whether what it holds is laid out as this build reads it. The number of the layout is in
//! the store itself, so that it is right for either backend, and for a backup that is restored.

use bytes::Bytes;
use weft_store::store::{Check, CommitError, ListRequest, ReadError, Store, Transaction, Write};

use super::layout::{LAYOUT, LAYOUT_KEY, objects_prefix};

/// Why a store is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaidError {
    #[error(
        "the objects in the store are laid out as number {found}, this build knows {LAYOUT}: use a newer build"
    )]
    Newer { found: u32 },
    #[error("the number of the layout of the objects in the store is not readable")]
    Unreadable,
    #[error("the number of the layout cannot be read")]
    Read(#[from] ReadError),
    #[error("the number of the layout cannot be written")]
    Commit(#[source] CommitError),
}

/// Reads the number, and writes it where there is none: into a store that is new, or of before there was one.
///
/// # Errors
/// The store has another layout, or fails.
pub(crate) async fn check(store: &dyn Store) -> Result<(), LaidError> {
    let key = Bytes::from_static(LAYOUT_KEY.as_bytes());
    loop {
        if let Some(entry) = store.get(key.clone(), None).await? {
            let number = std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok());
            return match number {
                Some(LAYOUT) => Ok(()),
                Some(found) if found > LAYOUT => Err(LaidError::Newer { found }),
                _ => Err(LaidError::Unreadable),
            };
        }
        let checks = vec![Check::Absent(key.clone())];
        let writes = vec![Write::Put(key.clone(), LAYOUT.to_string().into())];
        match store.commit(Transaction { checks, writes }).await {
            // Another control plane was faster: what it wrote is read.
            Err(CommitError::Conflict { .. }) => {}
            done => return done.map(drop).map_err(LaidError::Commit),
        }
    }
}

/// Whether a store has no object at all.
///
/// # Errors
/// It cannot be read.
pub(crate) async fn is_empty(store: &dyn Store) -> Result<bool, ReadError> {
    let first = ListRequest { prefix: objects_prefix(), after: None, entries_max: 1, at: None };
    Ok(store.list(first).await?.entries.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_store::Embedded;

    async fn put(store: &Embedded, value: &'static str) {
        let writes = vec![Write::Put(LAYOUT_KEY.into(), value.into())];
        store.commit(Transaction { checks: Vec::new(), writes }).await.unwrap();
    }

    #[tokio::test]
    async fn the_number_is_written_once_and_another_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(dir.path().join("store")).unwrap();
        check(&store).await.unwrap();
        check(&store).await.unwrap();
        assert_eq!(store.revisions().end().0, 1);
        put(&store, "2").await;
        let error = check(&store).await.unwrap_err();
        assert!(matches!(error, LaidError::Newer { found: 2 }), "{error:?}");
        assert!(error.to_string().contains("as number 2, this build knows 1"), "{error}");
        for damaged in ["", "0", "one"] {
            put(&store, damaged).await;
            assert!(matches!(check(&store).await, Err(LaidError::Unreadable)), "{damaged:?}");
        }
    }
}
