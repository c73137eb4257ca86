//! The table of flows, written while no program runs: the agent writes nothing there, and has no words for it.

use aya::Ebpf;
use aya::maps::{Array, MapData};
use weft_dataplane_abi::conntrack::{Flow, Tuple};
use weft_dataplane_abi::flow_table::{GROUP, Group, Row, Spot, WAYS, spot};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{BEFORE, Bench};

type Bytes = [u8; size_of::<Group>()];

/// A table of flows as the kernel's map has it.
pub(crate) struct Flows<'a> {
    map: Array<&'a mut MapData, Bytes>,
    seed: [u64; 2],
    buckets: u32,
}

impl<'a> Flows<'a> {
    fn of(ebpf: &'a mut Ebpf, name: &str, seed: [u64; 2]) -> Self {
        let map = Array::try_from(ebpf.map_mut(name).expect("the table")).expect("an array");
        let buckets = map.len() * GROUP as u32;
        Self { map, seed, buckets }
    }

    /// Takes or gives back the locks of all buckets.
    pub(crate) fn lock(&mut self, held: bool) {
        for number in 0..self.map.len() {
            let mut group = self.group(number);
            group.heads.iter_mut().for_each(|head| head.lock = u64::from(held));
            self.set_group(number, &group);
        }
    }

    /// Writes a row, over the one there is or in place of none.
    pub(crate) fn put(&mut self, key: &Tuple, flow: &Flow) {
        let spot = self.spot(key);
        let (bucket, way) = self.find(key).unwrap_or_else(|| {
            let free = |bucket: u32| {
                let head = self.group(bucket / GROUP as u32).heads[bucket as usize % GROUP];
                Some((bucket, head.tags.iter().position(|tag| *tag == 0)?))
            };
            free(spot.first).or_else(|| free(spot.second)).expect("room for a row")
        });
        self.change(bucket, |group, place| {
            group.rows[place][way] = Row { key: *key, flow: *flow };
            group.heads[place].tags[way] = spot.tag;
        });
        if bucket != spot.first {
            self.change(spot.first, |group, place| group.heads[place].spilled = 1);
        }
    }

    /// Takes a row away, as a full table does.
    pub(crate) fn remove(&mut self, key: &Tuple) {
        let (bucket, way) = self.find(key).expect("a row to remove");
        self.change(bucket, |group, place| group.heads[place].tags[way] = 0);
    }

    /// Bucket and way of a row.
    fn find(&self, key: &Tuple) -> Option<(u32, usize)> {
        let spot = self.spot(key);
        [spot.first, spot.second].into_iter().find_map(|bucket| {
            let (group, place) = (self.group(bucket / GROUP as u32), bucket as usize % GROUP);
            let is_it = |way: &usize| {
                group.heads[place].tags[*way] == spot.tag && group.rows[place][*way].key == *key
            };
            Some((bucket, (0..WAYS).find(is_it)?))
        })
    }

    fn spot(&self, key: &Tuple) -> Spot {
        spot(zerocopy::transmute!(*key), self.seed, self.buckets)
    }

    fn change(&mut self, bucket: u32, change: impl FnOnce(&mut Group, usize)) {
        let number = bucket / GROUP as u32;
        let mut group = self.group(number);
        change(&mut group, bucket as usize % GROUP);
        self.set_group(number, &group);
    }

    fn group(&self, number: u32) -> Box<Group> {
        let bytes = self.map.get(&number, 0).expect("a group");
        Box::new(Group::read_from_bytes(&bytes).expect("a group"))
    }

    fn set_group(&mut self, number: u32, group: &Group) {
        self.map.set(number, Bytes::read_from_bytes(group.as_bytes()).expect("a group"), 0).expect("a group");
    }
}

impl Bench {
    /// The table of flows, to write to.
    pub(crate) fn table(&mut self) -> Flows<'_> {
        let seed = self.flows().seed();
        Flows::of(&mut self.ebpf, "flows", seed)
    }

    /// The table from before, of a bench that bridges.
    pub(crate) fn before(&mut self) -> Flows<'_> {
        Flows::of(&mut self.ebpf, "flows_before", BEFORE)
    }

    pub(crate) fn set_flow(&mut self, tuple: &Tuple, flow: &Flow) {
        self.table().put(tuple, flow);
    }

    /// Takes a row away, as a full table does.
    pub(crate) fn remove_flow(&mut self, tuple: &Tuple) {
        self.table().remove(tuple);
    }
}
