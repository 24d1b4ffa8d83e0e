//! Which table or index a damaged page belongs to.
//!
//! SQLite itself walks the trees, by its virtual table `dbstat`, on the file as it stands: read-only and immutable, so it
//! takes no lock and makes no file. Damage can end a walk, so each tree is walked by itself and a page that isn't met
//! stays unknown. It is a help for whoever has to decide what is lost; nothing else rests on it.

use sqlrep_disk::{Disk, File, OpenMode};
use sqlrep_store::{Inspection, PageNumber};
use sqlrep_vfs::rusqlite::{Connection, OpenFlags, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// What a page belongs to, by its number.
type Owners = BTreeMap<u32, String>;

/// Where page 1 names the first page of the freelist (<https://sqlite.org/fileformat2.html>, section 1.3).
const FREELIST_AT: u64 = 32;

/// Owners of the damaged pages, as far as they can be told.
pub(super) fn owners(
    disk: &dyn Disk,
    directory: &Path,
    generation: u64,
    found: &Inspection,
) -> Owners {
    let damaged: BTreeSet<u32> = found.damaged.iter().map(|page| page.get()).collect();
    let mut owners = Owners::new();
    // Half a checkpoint in the file: what it says of pages may be of before and after.
    if !found.journal {
        let path = format!("db/{generation}/main.db");
        freelist(disk, &path, found, &damaged, &mut owners);
        // A walk that fails leaves what it has told.
        trees(&directory.join(path), &damaged, &mut owners).ok();
    }
    if damaged.contains(&1) {
        owners.insert(1, "the schema".to_owned());
    }
    owners
}

fn trees(path: &Path, damaged: &BTreeSet<u32>, owners: &mut Owners) -> Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let sqlite = Connection::open_with_flags(immutable(path), flags)?;
    let schema = "the schema".to_owned();
    walk(&sqlite, "sqlite_schema", &schema, damaged, owners).ok();
    let mut all = sqlite.prepare(
        "SELECT name, rootpage, CASE type WHEN 'index' THEN 'index ' || name || ' of table ' || tbl_name \
         ELSE 'table ' || name END FROM sqlite_schema WHERE rootpage > 0",
    )?;
    let mut rows = all.query([])?;
    while let Some(row) = rows.next()? {
        let (name, root, owner): (String, u32, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if damaged.contains(&root) {
            owners.insert(root, owner.clone());
        }
        // The next tree may be whole.
        walk(&sqlite, &name, &owner, damaged, owners).ok();
    }
    Ok(())
}

/// Notes the damaged pages of one tree, up to where it can't be followed.
fn walk(
    sqlite: &Connection,
    name: &str,
    owner: &str,
    damaged: &BTreeSet<u32>,
    owners: &mut Owners,
) -> Result<()> {
    let mut pages = sqlite.prepare_cached("SELECT pageno FROM dbstat WHERE name = ?1")?;
    let mut rows = pages.query([name])?;
    while let Some(row) = rows.next()? {
        let page = row.get(0)?;
        if damaged.contains(&page) {
            owners.insert(page, owner.to_owned());
        }
    }
    Ok(())
}

/// A URI that lets SQLite read a file without locks and without looking for a journal.
fn immutable(path: &Path) -> String {
    // A folder that has no absolute name is opened by the one that it has.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                uri.push(char::from(*byte));
            }
            other => write!(uri, "%{other:02X}").expect("a String takes any text"),
        }
    }
    uri + "?mode=ro&immutable=1"
}

/// Notes the damaged pages of the freelist; a damaged page of it isn't followed.
fn freelist(
    disk: &dyn Disk,
    path: &str,
    found: &Inspection,
    damaged: &BTreeSet<u32>,
    owners: &mut Owners,
) {
    let (Some(size), Ok(file)) = (found.page_size, disk.open(path, OpenMode::Existing)) else {
        return;
    };
    let mut seen = BTreeSet::new();
    let mut next = if damaged.contains(&1) {
        None
    } else {
        word(&*file, FREELIST_AT)
    };
    while let Some(trunk) = next.filter(|page| seen.insert(*page)) {
        let inside = PageNumber::new(trunk).is_some_and(|page| found.pages.contains(page));
        if !inside {
            return;
        }
        if damaged.contains(&trunk) {
            owners.insert(trunk, "the freelist".to_owned());
            return;
        }
        let at = (u64::from(trunk) - 1) * u64::from(size.bytes());
        let leaves = word(&*file, at + 4).unwrap_or_default();
        for leaf in 0..leaves.min(size.bytes() / 4 - 2) {
            let page = word(&*file, at + 8 + 4 * u64::from(leaf));
            if let Some(page) = page.filter(|page| damaged.contains(page)) {
                owners.insert(page, "the freelist".to_owned());
            }
        }
        next = word(&*file, at);
    }
}

/// Four bytes as SQLite writes numbers; none if they can't be read.
fn word(file: &dyn File, at: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    file.read_exact_at(at, &mut bytes).ok()?;
    Some(u32::from_be_bytes(bytes))
}
