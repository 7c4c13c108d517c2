//! How many connections there may be, in all and from one address.
//!
//! When there are too many, the oldest one gives way in which nothing is under way: a client that opens many
//! connections and says nothing keeps only its own newest.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::activity::Activity;

/// The part of an IPv6 address that belongs to one network, whose machines are one caller's.
const NETWORK: u128 = !0 << 64;

/// The slots that connections take.
pub(super) struct Slots {
    most: usize,
    most_of_an_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// By age: the oldest comes first.
    holders: BTreeMap<u64, Holder>,
    of_address: HashMap<IpAddr, BTreeSet<u64>>,
}

struct Holder {
    address: IpAddr,
    activity: Arc<Activity>,
    gives_way: CancellationToken,
}

/// A slot for one connection, until this is dropped.
pub(super) struct Slot {
    slots: Arc<Slots>,
    id: u64,
    /// What goes on in the connection.
    pub(super) activity: Arc<Activity>,
    /// Cancelled when the connection is to be closed for another one.
    pub(super) gives_way: CancellationToken,
}

impl Slots {
    pub(super) fn new(most: usize, most_of_an_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_an_address, taken: Mutex::default() })
    }

    /// A slot for a connection from `address`; none when all are taken by connections in which
    /// something is under way.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Slot> {
        let address = caller(address);
        let mut taken = self.taken();
        if taken.of_address.get(&address).is_some_and(|ids| ids.len() >= self.most_of_an_address) {
            let oldest = taken.idle(taken.of_address.get(&address).into_iter().flatten())?;
            taken.evict(oldest);
        }
        if taken.holders.len() >= self.most {
            let oldest = taken.idle(taken.holders.keys())?;
            taken.evict(oldest);
        }
        let id = taken.next;
        taken.next += 1;
        let (activity, gives_way) = (Arc::<Activity>::default(), CancellationToken::new());
        let holder = Holder { address, activity: activity.clone(), gives_way: gives_way.clone() };
        taken.holders.insert(id, holder);
        taken.of_address.entry(address).or_default().insert(id);
        Some(Slot { slots: self.clone(), id, activity, gives_way })
    }

    /// Whether a connection is open over which something was asked. Those that were upgraded do not count.
    pub(super) fn are_used(&self) -> bool {
        self.taken().holders.values().any(|holder| holder.activity.is_used())
    }

    /// Closes the oldest connection in which nothing is under way.
    pub(super) fn make_room(&self) {
        let mut taken = self.taken();
        if let Some(oldest) = taken.idle(taken.holders.keys()) {
            taken.evict(oldest);
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// The oldest of these in which nothing is under way, those first that never asked anything.
    fn idle<'a>(&self, ids: impl Iterator<Item = &'a u64> + Clone) -> Option<u64> {
        let idle = ids.filter(|id| self.holders.get(id).is_some_and(|holder| holder.activity.is_idle()));
        let is_silent = |id: &&u64| self.holders.get(id).is_some_and(|holder| holder.activity.latest().is_none());
        idle.clone().find(is_silent).or_else(|| idle.clone().next()).copied()
    }

    fn evict(&mut self, id: u64) {
        if let Some(holder) = self.remove(id) {
            holder.gives_way.cancel();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Holder> {
        let holder = self.holders.remove(&id)?;
        if let Some(ids) = self.of_address.get_mut(&holder.address) {
            ids.remove(&id);
            if ids.is_empty() {
                self.of_address.remove(&holder.address);
            }
        }
        Some(holder)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.slots.taken().remove(self.id));
    }
}

/// Whom an address belongs to: an IPv4 address, or an IPv6 network.
pub(crate) fn caller(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use http::Version;

    use super::*;

    const ADA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const EVE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn one_caller_takes_its_own_places_only_and_the_oldest_idle_one_gives_way() {
        let slots = Slots::new(3, 2);
        let first = slots.take(EVE).expect("a slot");
        let second = slots.take(EVE).expect("a slot");
        let ada = slots.take(ADA).expect("a slot");
        let third = slots.take(EVE).expect("the slot of the first");
        assert!(first.gives_way.is_cancelled() && !second.gives_way.is_cancelled() && !ada.gives_way.is_cancelled());
        drop(first);
        let (_busy, _too) = (second.activity.begin(Version::HTTP_11), third.activity.begin(Version::HTTP_11));
        assert!(slots.take(EVE).is_none(), "something is under way in both");
        assert!(!ada.gives_way.is_cancelled());
        let _newer = slots.take(ADA).expect("the idle slot of the same caller");
        assert!(ada.gives_way.is_cancelled());
        drop(third);
        slots.take(EVE).expect("free again");
    }

    #[test]
    fn a_connection_that_asked_before_outlives_one_that_never_did() {
        let slots = Slots::new(2, 2);
        let asked = slots.take(ADA).expect("a slot");
        drop(asked.activity.begin(Version::HTTP_11));
        let silent = slots.take(EVE).expect("a slot");
        let _third = slots.take(ADA).expect("a slot");
        assert!(silent.gives_way.is_cancelled() && !asked.gives_way.is_cancelled());
    }

    #[test]
    fn a_caller_is_an_address_or_an_ipv6_network() {
        let caller = |text: &str| caller(text.parse().expect("an address"));
        assert_eq!(caller("::ffff:192.0.2.1"), ADA);
        assert_eq!(caller("2001:db8::1"), caller("2001:db8::2"));
        assert_ne!(caller("2001:db8::1"), caller("2001:db8:0:1::1"));
    }
}
