//! Epochs of samplers.

use proptest::prelude::*;
use slaf_kernels::sampling::{Group, Part, Pool, Sampler, Sets, Shuffle};
use std::collections::HashMap;

fn epoch(sampler: &Sampler, epoch: u64) -> Vec<u64> {
    let order = sampler.epoch(epoch).unwrap();
    let mut cells = Vec::new();
    order.cells(0..order.len(), &mut cells);
    cells
}

fn counts(cells: &[u64]) -> HashMap<u64, u64> {
    let mut counts = HashMap::new();
    cells.iter().for_each(|c| *counts.entry(*c).or_default() += 1);
    counts
}

proptest! {
    #[test]
    fn any_part_of_an_epoch_is_had_alone(n in 1_u64..300, start in 0_u64..300, seed: u64) {
        let weights: Vec<f64> = (0..n).map(|i| (i % 7) as f64 + 0.5).collect();
        let pool = Pool::Range(10..10 + n);
        let part = |sampler| Part { sampler, proportion: 1.0 };
        let cover = Sampler::cover(pool.clone(), Shuffle::Full, seed);
        let samplers = [
            cover.clone(),
            Sampler::cover(pool.clone(), Shuffle::Block { block: 5, window: 60 }, seed),
            Sampler::with_replacement(pool.clone(), &weights, 2 * n, seed).unwrap(),
            Sampler::without_replacement(pool.clone(), weights, n, seed).unwrap(),
            Sampler::mixture(vec![part(cover), part(Sampler::cover(Pool::Range(0..7), Shuffle::Full, 3))], 2 * n, seed)
                .unwrap(),
            Sampler::sets(Sets::new(vec![Group { cells: pool, controls: 0 }], vec![Pool::Range(0..9)], 4, 3).unwrap(), seed),
        ];
        for sampler in samplers {
            let whole = epoch(&sampler, 2);
            let start = start.min(sampler.len());
            let mut part = Vec::new();
            sampler.epoch(2).unwrap().cells(start..sampler.len(), &mut part);
            prop_assert_eq!(&whole[start as usize..], &part[..]);
        }
    }
}

#[test]
fn a_cover_has_each_cell_of_its_pool_once() {
    let ids: Vec<u64> = (0..50).map(|i| i * 3 + 1).collect();
    let sampler = Sampler::cover(Pool::Ids(ids.clone().into()), Shuffle::Full, 1);
    let mut cells = epoch(&sampler, 4);
    assert_ne!(cells, ids);
    cells.sort_unstable();
    assert_eq!(cells, ids);
}

#[test]
fn a_mixture_keeps_its_proportions_and_covers_its_parts() {
    let part = |range, proportion| Part { sampler: Sampler::cover(Pool::Range(range), Shuffle::Full, 1), proportion };
    let n = 3 * 4096;
    let sampler = Sampler::mixture(vec![part(0..1000, 1.0), part(1000..9000, 2.0)], n, 5).unwrap();
    let cells = epoch(&sampler, 0);
    let first = cells.iter().filter(|c| **c < 1000).count() as u64;
    assert_eq!(first, 3 * 1365);
    for (cell, count) in counts(&cells) {
        // 4,095 positions over 1,000 cells, and 8,193 over 8,000: whole passes, and a part of one.
        let passes = if cell < 1000 { 4..=5 } else { 1..=2 };
        assert!(passes.contains(&count), "{cell}: {count}");
    }
    // Any stretch is mixed.
    let early = cells[..200].iter().filter(|c| **c < 1000).count();
    assert!((30..110).contains(&early), "{early}");
    assert_ne!(cells, epoch(&sampler, 1));
}

#[test]
fn wrong_mixtures_are_refused() {
    let part = |n, proportion| Part { sampler: Sampler::cover(Pool::Range(0..n), Shuffle::Full, 1), proportion };
    assert!(Sampler::mixture(vec![part(5, 1.0), part(0, 1.0)], 10, 0).is_err());
    assert!(Sampler::mixture(vec![part(5, 1.0), part(5, -1.0)], 10, 0).is_err());
    assert!(Sampler::mixture(vec![part(5, 1.0), part(5, 1e-9)], 10, 0).is_err());
    assert!(Sampler::mixture(vec![], 10, 0).is_err());
}

#[test]
fn sets_hold_one_group_and_its_controls() {
    let groups = vec![
        Group { cells: Pool::Range(100..110), controls: 0 },
        Group { cells: Pool::Range(200..203), controls: 1 },
        Group { cells: Pool::Ids(vec![300, 310, 320, 330].into()), controls: 1 },
    ];
    let controls = vec![Pool::Range(0..50), Pool::Range(50..60)];
    let sampler = Sampler::sets(Sets::new(groups, controls, 4, 2).unwrap(), 3);
    assert_eq!((sampler.len(), sampler.granule()), (5 * 6, 6));
    let cells = epoch(&sampler, 1);
    for set in cells.chunks(6) {
        let group = set[0] / 100;
        assert!(set[..4].iter().all(|c| c / 100 == group), "{set:?}");
        let matched = if group == 1 { 0..50 } else { 50..60 };
        assert!(set[4..].iter().all(|c| matched.contains(c)), "{set:?}");
        assert_ne!(set[4], set[5]);
    }
    let counts = counts(&cells);
    assert!((100..110).chain(200..203).chain([300, 310, 320, 330]).all(|c| counts[&c] >= 1));
    // 10 cells in 3 sets of 4, and 3 in one: three repeats.
    assert_eq!((100..110).map(|c| counts[&c]).sum::<u64>(), 12);
    assert_ne!(cells, epoch(&sampler, 2));
}

#[test]
fn sets_without_controls_are_refused() {
    let groups = vec![Group { cells: Pool::Range(0..10), controls: 0 }];
    assert!(Sets::new(groups.clone(), vec![Pool::Range(0..0)], 4, 2).is_err());
    assert!(Sets::new(groups.clone(), vec![], 4, 0).is_ok());
    assert!(Sets::new(groups, vec![Pool::Range(0..5)], 0, 2).is_err());
}

#[test]
fn fewer_weights_than_cells_are_refused() {
    assert!(Sampler::with_replacement(Pool::Range(0..3), &[1.0, 1.0], 5, 0).is_err());
    assert!(Sampler::without_replacement(Pool::Range(0..2), vec![1.0, 0.0], 2, 0).is_err());
}
