//! An index of the names of the cells, in files: where a name is without reading all of them.
//!
//! A segment is about consecutive cells. It has an entry for each, sorted: a hash of the name and the
//! row. Hashes are spread evenly, so that the place of an entry is known but for a few hundred entries,
//! and one small read finds it. A hash is not a name: what is found is compared with the name that
//! `cells` has. `SPEC.md` describes the bytes.

use crate::store::manifest::NameSegment;
use rayon::prelude::*;
use slaf_core::{Error, Result};
use slaf_lance::runtime::in_pool;
use std::future::Future;
use std::ops::Range;

/// Entries of a block, which has a checksum of its own.
const BLOCK: u64 = 512;
/// Bytes of an entry: the hash, and the row counted from the first of the segment.
const ENTRY: u64 = 8 + 4;
/// Bytes of a checksum.
const CHECKSUM: u64 = 4;
/// The most entries of a segment: they are in memory while it is written.
pub(crate) const LONGEST: u64 = 1 << 23;

/// The first 64 bits of the BLAKE3 hash of a name.
fn hash(name: &str) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(name.as_bytes()).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// Bytes of a segment of so many rows; `None` for more than there can be.
pub(crate) fn length(n_rows: u64) -> Option<u64> {
    n_rows.checked_mul(ENTRY)?.checked_add(n_rows.div_ceil(BLOCK) * CHECKSUM)
}

/// Where the blocks with some entries are.
fn bytes_of(blocks: &Range<u64>, n_rows: u64) -> Range<u64> {
    let whole = BLOCK * ENTRY + CHECKSUM;
    let end = blocks.end * whole;
    blocks.start * whole..length(n_rows).map_or(end, |length| end.min(length))
}

/// Names on their way into a segment.
#[derive(Debug, Default)]
pub(crate) struct Entries(Vec<(u64, u32)>);

impl Entries {
    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// Adds the name of the next row.
    pub(crate) fn push(&mut self, name: &str) {
        self.0.push((hash(name), self.0.len() as u32));
    }

    /// The entries of a segment that was read whole.
    ///
    /// # Errors
    /// `corrupt` for bytes that are not this segment.
    pub(crate) fn from_bytes(bytes: &[u8], segment: &NameSegment) -> Result<Entries> {
        let all = decode(bytes, &(0..segment.n_rows.div_ceil(BLOCK)), segment)?;
        Ok(Entries(all))
    }

    /// Adds the rows of another segment behind those that are here.
    pub(crate) fn extend(&mut self, other: Entries) {
        let first = self.0.len() as u32;
        self.0.extend(other.0.into_iter().map(|(hash, row)| (hash, first + row)));
    }

    /// The bytes of the segment, whose file will have this path.
    ///
    /// # Errors
    /// `io` if threads cannot be started.
    pub(crate) fn into_bytes(mut self, path: &str) -> Result<Vec<u8>> {
        in_pool(|| {
            self.0.par_sort_unstable();
            Ok(())
        })?;
        let mut bytes = Vec::with_capacity(length(self.len()).unwrap_or_default() as usize);
        for (number, block) in (0..).zip(self.0.chunks(BLOCK as usize)) {
            let begin = bytes.len();
            for (hash, row) in block {
                bytes.extend_from_slice(&hash.to_le_bytes());
                bytes.extend_from_slice(&row.to_le_bytes());
            }
            let checksum = checksum(path, number, &bytes[begin..]);
            bytes.extend_from_slice(&checksum.to_le_bytes());
        }
        Ok(bytes)
    }
}

/// The checksum of a block: also of where it belongs, since one in another place would hide names.
fn checksum(path: &str, number: u64, entries: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(path.as_bytes());
    hasher.update(&number.to_le_bytes());
    hasher.update(entries);
    hasher.finalize()
}

/// The entries of some blocks.
fn decode(bytes: &[u8], blocks: &Range<u64>, segment: &NameSegment) -> Result<Vec<(u64, u32)>> {
    let n_rows = segment.n_rows;
    let expected = bytes_of(blocks, n_rows);
    if bytes.len() as u64 != expected.end - expected.start {
        return Err(Error::corrupt("it ends too early"));
    }
    let mut entries = Vec::with_capacity(bytes.len() / ENTRY as usize);
    for (number, block) in blocks.clone().zip(bytes.chunks((BLOCK * ENTRY + CHECKSUM) as usize)) {
        let Some((block, expected)) = block.split_last_chunk::<{ CHECKSUM as usize }>() else {
            return Err(Error::corrupt("it ends too early"));
        };
        if checksum(&segment.path, number, block) != u32::from_le_bytes(*expected) {
            return Err(Error::corrupt("its content has changed"));
        }
        for entry in block.chunks_exact(ENTRY as usize) {
            let (mut hash, mut row) = ([0; 8], [0; 4]);
            hash.copy_from_slice(&entry[..8]);
            row.copy_from_slice(&entry[8..]);
            let (hash, row) = (u64::from_le_bytes(hash), u32::from_le_bytes(row));
            if u64::from(row) >= n_rows {
                return Err(Error::corrupt(format!("row {row} of {n_rows}")));
            }
            entries.push((hash, row));
        }
    }
    if !entries.is_sorted() {
        return Err(Error::corrupt("its entries do not rise"));
    }
    Ok(entries)
}

/// The rows of the store that may have a name, rising, as a segment has it. `read` gives bytes of its
/// file.
///
/// # Errors
/// `corrupt` for bytes that are no segment; those of `read`.
pub(crate) async fn find<F: Future<Output = Result<bytes::Bytes>>>(
    segment: &NameSegment,
    name: &str,
    read: impl FnMut(Range<u64>) -> F,
) -> Result<Vec<u64>> {
    let rows = find_hash(segment, hash(name), read).await?;
    Ok(rows.into_iter().map(|row| segment.first_row + u64::from(row)).collect())
}

async fn find_hash<F: Future<Output = Result<bytes::Bytes>>>(
    segment: &NameSegment,
    hash: u64,
    mut read: impl FnMut(Range<u64>) -> F,
) -> Result<Vec<u32>> {
    let n_rows = segment.n_rows;
    let n_blocks = n_rows.div_ceil(BLOCK);
    // Of n even hashes, those below one are as many as expected give or take a few times sqrt(n) / 2.
    let expected = ((u128::from(hash) * u128::from(n_rows)) >> 64) as u64;
    let mut margin = 2 * n_rows.isqrt() + 1;
    let around = |margin: u64| {
        let first = expected.saturating_sub(margin) / BLOCK;
        let last = expected.saturating_add(margin).min(n_rows.saturating_sub(1)) / BLOCK;
        first..(last + 1).min(n_blocks)
    };
    let mut blocks = around(margin);
    let mut entries = decode(&read(bytes_of(&blocks, n_rows)).await?, &blocks, segment)?;
    loop {
        // All with this hash are here if there is a smaller one before and a larger one behind.
        let misses_before = blocks.start > 0 && entries.first().is_none_or(|e| e.0 >= hash);
        let misses_behind = blocks.end < n_blocks && entries.last().is_none_or(|e| e.0 <= hash);
        if !misses_before && !misses_behind {
            break;
        }
        margin = margin.saturating_mul(4);
        let wider = around(margin);
        if misses_before {
            let more = wider.start.min(blocks.start - 1)..blocks.start;
            let mut before = decode(&read(bytes_of(&more, n_rows)).await?, &more, segment)?;
            before.append(&mut entries);
            entries = before;
            blocks.start = more.start;
        }
        if misses_behind {
            let more = blocks.end..wider.end.max(blocks.end + 1).min(n_blocks);
            entries.append(&mut decode(&read(bytes_of(&more, n_rows)).await?, &more, segment)?);
            blocks.end = more.end;
        }
        if !entries.is_sorted() {
            return Err(Error::corrupt("its entries do not rise"));
        }
    }
    let from = entries.partition_point(|e| e.0 < hash);
    Ok(entries[from..].iter().take_while(|e| e.0 == hash).map(|e| e.1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use slaf_core::ErrorKind;
    use slaf_lance::runtime::block_on;
    use slaf_testing::Random;

    fn segment(n_rows: u64) -> NameSegment {
        NameSegment { path: "a".into(), first_row: 1000, n_rows }
    }

    fn entries(names: &[String]) -> Entries {
        let mut entries = Entries::default();
        names.iter().for_each(|name| entries.push(name));
        entries
    }

    /// What is found, and the number and bytes of the reads.
    fn found(bytes: &[u8], n: u64, hash: u64) -> Result<(Vec<u32>, usize, u64)> {
        let (mut reads, mut total) = (0, 0);
        let rows = block_on(find_hash(&segment(n), hash, |range| {
            reads += 1;
            total += range.end - range.start;
            let part = Bytes::copy_from_slice(&bytes[range.start as usize..range.end as usize]);
            async move { Ok(part) }
        }))?;
        Ok((rows, reads, total))
    }

    #[test]
    fn every_name_is_found_where_it_is() {
        let mut random = Random(1);
        let alphabet = ["", "a", "ä", "細胞", "\0", "🧬", "AAACATACAACCAC-1", " "];
        for n in [1, 2, 3, 511, 512, 513, 1024, 1025, 5000] {
            let mut word = |i: usize| match i % 3 {
                0 => format!("cell{i}"),
                // Many come again and again.
                _ => (0..i % 4).map(|_| alphabet[random.below(alphabet.len() as u64) as usize]).collect(),
            };
            let names: Vec<String> = (0..n).map(&mut word).collect();
            let bytes = entries(&names).into_bytes("a").unwrap();
            assert_eq!(length(n as u64), Some(bytes.len() as u64));
            let absent = ["absent".to_string(), "cell".to_string()];
            for name in names.iter().step_by(1 + n / 200).chain(&absent).chain(alphabet.map(String::from).iter()) {
                let read = |r: Range<u64>| {
                    let part = Bytes::copy_from_slice(&bytes[r.start as usize..r.end as usize]);
                    async move { Ok(part) }
                };
                let rows = block_on(find(&segment(n as u64), name, read)).unwrap();
                let expected = names.iter().zip(1000..).filter(|(other, _)| *other == name);
                assert_eq!(rows, expected.map(|(_, row)| row).collect::<Vec<u64>>(), "{name:?} of {n}");
            }
        }
    }

    #[test]
    fn hashes_that_are_not_even_take_more_reads() {
        // As of names that somebody chose for their hashes: all equal, at the ends, in one place.
        let n = 20_000_u64;
        let of: [fn(u64) -> u64; 5] =
            [|_| 7, |_| u64::MAX, |i| i, |i| u64::MAX - i, |i| if i < 15_000 { 1 << 63 } else { i << 40 }];
        for of in of {
            let all = Entries((0..n).map(|i| (of(i), i as u32)).collect());
            let bytes = all.into_bytes("a").unwrap();
            for i in [0, 1, 511, 512, n / 2, 14_999, 15_000, n - 1] {
                let (rows, ..) = found(&bytes, n, of(i)).unwrap();
                let expected: Vec<u32> = (0..n).filter(|j| of(*j) == of(i)).map(|j| j as u32).collect();
                assert_eq!(rows, expected);
            }
            assert_eq!(found(&bytes, n, 6).unwrap().0, if of(6) == 6 { vec![6] } else { vec![] });
        }
    }

    #[test]
    fn a_name_of_a_million_is_a_small_read() {
        let n = 1_000_000_u64;
        let names: Vec<String> = (0..n).map(|i| format!("cell-{i}")).collect();
        let bytes = entries(&names).into_bytes("a").unwrap();
        let mut twice = 0;
        for i in (0..n).step_by(9973) {
            let (rows, reads, total) = found(&bytes, n, hash(&names[i as usize])).unwrap();
            assert_eq!(rows, [i as u32]);
            assert!(reads <= 3 && total < 200_000, "{reads} reads, {total} bytes");
            twice += usize::from(reads > 1);
        }
        assert!(twice <= 2, "{twice} of 101");
    }

    #[test]
    fn segments_join() {
        let names: Vec<String> = (0..3000).map(|i| format!("n{}", i % 900)).collect();
        let whole = entries(&names).into_bytes("a").unwrap();
        let parts = [&names[..700], &names[700..701], &names[701..]];
        let mut joined = Entries::default();
        for part in parts {
            let bytes = entries(part).into_bytes("a").unwrap();
            joined.extend(Entries::from_bytes(&bytes, &segment(part.len() as u64)).unwrap());
        }
        // In the order of the parts' hashes, which the bytes do not show.
        assert_eq!(joined.into_bytes("a").unwrap(), whole);
    }

    #[test]
    fn damage_is_found() {
        let names: Vec<String> = (0..1300).map(|i| format!("n{i}")).collect();
        let bytes = entries(&names).into_bytes("a").unwrap();
        let mut random = Random(2);
        for _ in 0..200 {
            let mut damaged = bytes.clone();
            damaged[random.below(bytes.len() as u64) as usize] ^= 1 << random.below(8);
            assert_eq!(Entries::from_bytes(&damaged, &segment(1300)).err().map(|e| e.kind()), Some(ErrorKind::Corrupt));
        }
        for n in [0, 1, 100, bytes.len() - 1] {
            assert!(Entries::from_bytes(&bytes[..n], &segment(1300)).is_err());
        }
        assert!(Entries::from_bytes(&bytes, &segment(1299)).is_err(), "rows that the segment does not have");
        // Whole, and in another place: of another segment, or of another block.
        let other = NameSegment { path: "b".into(), ..segment(1300) };
        assert!(Entries::from_bytes(&bytes, &other).is_err());
        let whole = (BLOCK * ENTRY + CHECKSUM) as usize;
        let twice = [&bytes[..whole], &bytes[..whole], &bytes[2 * whole..]].concat();
        assert!(Entries::from_bytes(&twice, &segment(1300)).is_err());
        assert!(found(&twice, 1300, u64::MAX / 2).is_err());
    }
}
