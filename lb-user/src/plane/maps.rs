//! The maps, typed. The only place that reads or writes them.
//!
//! All methods take `&self`: what is shared with the kernel is written by words, a map update is atomic per
//! element in the kernel, and the locks here only serve aya's signatures.

mod counts;
mod pins;
mod vips;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::maps::{Array, DevMap, HashMap, Map, MapData, MapError, MapFd, PerCpuArray, RingBuf};
use aya::sys::SyscallError;
use lb_common::Shared;
use lb_common::maps::{
    BeaconKey, Counts, Event, MAX_PORTS, Node, NodeStatus, Pin, Settings, StatusPlane, TABLE_SLOTS,
    Turnout,
};

pub use super::batch::{Batch, Cursor};
use super::raw::{Raw, from_bytes};
use super::tracks::{self, Place, Tracks};
pub use pins::Insertion;

/// A map could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("map {map}")]
pub struct AccessError {
    /// The map.
    pub map: &'static str,
    #[source]
    source: MapError,
}

/// The maps could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No pin of this name.
    #[error("{path}: no such pin; is `pointsman run` serving with this bpffs directory?")]
    Missing {
        /// The pin's path.
        path: PathBuf,
    },
    /// The object has no such map: it was built from other sources.
    #[error("the BPF object has no map {map}")]
    Absent {
        /// The map.
        map: &'static str,
    },
    /// The map is not what it should be, or the kernel refuses it.
    #[error("map {map}")]
    Map {
        /// The map.
        map: &'static str,
        /// Why.
        #[source]
        source: MapError,
    },
}

/// Typed accessors to every map.
pub struct Maps {
    tracks: Tracks,
    keys: Mutex<Array<MapData, Raw<BeaconKey>>>,
    pins: Mutex<HashMap<MapData, u64, Raw<Pin>>>,
    pins_fd: OwnedFd,
    max_pins: u32,
    counts: PerCpuArray<MapData, Raw<Counts>>,
    events: Mutex<RingBuf<MapData>>,
    events_fd: RawFd,
    ports: Mutex<DevMap<MapData>>,
}

impl Maps {
    /// Opens the maps that are pinned in `dir` (the layout-versioned directory).
    ///
    /// # Errors
    /// [`OpenError`], naming the pin or map.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::from_source(|map| {
            let path = dir.join(map);
            let data = MapData::from_pin(&path).map_err(|source| match &source {
                MapError::SyscallError(SyscallError { io_error, .. })
                    if io_error.kind() == io::ErrorKind::NotFound =>
                {
                    OpenError::Missing { path }
                }
                _ => OpenError::Map { map, source },
            })?;
            Map::from_map_data(data).map_err(|source| OpenError::Map { map, source })
        })
    }

    /// Takes the maps of a loaded object.
    pub(super) fn from_source(
        mut source: impl FnMut(&'static str) -> Result<Map, OpenError>,
    ) -> Result<Self, OpenError> {
        let mut take = |map| source(map).map(|found| (map, found));
        let pins: HashMap<MapData, u64, Raw<Pin>> = typed(take("PINS")?)?;
        let (pins_fd, max_pins) = {
            use aya::maps::IterableMap;
            let data: &MapData = pins.map();
            let clone = data.fd().as_fd().try_clone_to_owned();
            let fd = clone.map_err(|error| OpenError::Map {
                map: "PINS",
                source: error.into(),
            })?;
            let info = data.info().map_err(|source| OpenError::Map {
                map: "PINS",
                source,
            })?;
            (fd, info.max_entries())
        };
        let (name, tracks) = take("TRACKS")?;
        let tracks =
            Tracks::map(descriptor(name, &tracks)?.as_fd()).map_err(|error| OpenError::Map {
                map: name,
                source: error.into(),
            })?;
        let events: RingBuf<MapData> = typed(take("EVENTS")?)?;
        Ok(Self {
            tracks,
            keys: Mutex::new(typed(take("KEYS")?)?),
            pins: Mutex::new(pins),
            pins_fd,
            max_pins,
            counts: typed(take("COUNTS")?)?,
            events_fd: events.as_raw_fd(),
            events: Mutex::new(events),
            ports: Mutex::new(typed(take("PORTS")?)?),
        })
    }

    /// The controller's settings.
    ///
    /// # Errors
    /// [`AccessError`], here as everywhere below: there is no such index, or the kernel refused the system call.
    pub fn settings(&self) -> Result<Settings, AccessError> {
        self.get(&tracks::SETTINGS, 0)
    }

    /// Writes the settings.
    pub fn set_settings(&self, settings: Settings) -> Result<(), AccessError> {
        self.set(&tracks::SETTINGS, 0, settings)
    }

    /// Which table steers.
    pub fn turnout(&self) -> Result<Turnout, AccessError> {
        self.get(&tracks::TURNOUT, 0)
    }

    /// Throws the switch: one store, seen by the next packet.
    pub fn set_turnout(&self, turnout: Turnout) -> Result<(), AccessError> {
        self.set(&tracks::TURNOUT, 0, turnout)
    }

    /// Fills a generation of the steering table: the node of each slot. Slots beyond the slice get
    /// no node.
    pub fn set_table(&self, generation: u32, nodes: &[u16]) {
        self.tracks.set_table(generation, nodes);
    }

    /// A generation of the steering table: the node of each slot.
    pub fn table(&self, generation: u32) -> Vec<u16> {
        self.tracks.table(generation)
    }

    /// The node that a generation of the table gives for one slot.
    pub fn home(&self, generation: u32, slot: u32) -> Result<u16, AccessError> {
        let home = self.tracks.home(generation, slot);
        home.ok_or_else(|| beyond(slot, TABLE_SLOTS))
    }

    /// What the controller says of a node.
    pub fn node(&self, id: u16) -> Result<Node, AccessError> {
        self.get(&tracks::NODES, id.into())
    }

    /// Says something of a node.
    ///
    /// Packets are steered by it meanwhile: so what is no longer true is taken back before anything else is
    /// written, and while the way there changes the node cannot be reached.
    pub fn set_node(&self, id: u16, node: Node) -> Result<(), AccessError> {
        let before = self.node(id)?;
        let way = |node: &Node| {
            let macs = (node.destination_mac, node.source_mac);
            (macs, node.ifindex, node.port)
        };
        let mut flags = before.flags & node.flags;
        if way(&before) != way(&node) {
            flags &= !Node::REACHABLE;
        }
        self.set(&tracks::NODES, id.into(), Node { flags, ..before })?;
        self.set(&tracks::NODES, id.into(), node)
    }

    /// What a node's beacons say.
    pub fn status(&self, id: u16) -> Result<NodeStatus, AccessError> {
        self.get(&tracks::STATUS, id.into())
    }

    /// Overwrites what a node's beacons said: for tests and `explain`; the program owns it.
    pub fn set_status(&self, id: u16, status: NodeStatus) -> Result<(), AccessError> {
        self.set(&tracks::STATUS, id.into(), status)
    }

    /// The status plane as a whole.
    pub fn plane_status(&self) -> Result<StatusPlane, AccessError> {
        self.get(&tracks::PLANE, 0)
    }

    /// Overwrites it: for tests and `explain`; the program owns it.
    pub fn set_plane_status(&self, plane: StatusPlane) -> Result<(), AccessError> {
        self.set(&tracks::PLANE, 0, plane)
    }

    /// A beacon key.
    pub fn key(&self, id: u8) -> Result<BeaconKey, AccessError> {
        let key = lock(&self.keys).get(&id.into(), 0);
        key.map(|Raw(key)| key).map_err(|source| AccessError {
            map: "KEYS",
            source,
        })
    }

    /// Sets a beacon key.
    pub fn set_key(&self, id: u8, key: BeaconKey) -> Result<(), AccessError> {
        let set = lock(&self.keys).set(id.into(), Raw(key), 0);
        set.map_err(|source| AccessError {
            map: "KEYS",
            source,
        })
    }

    /// A word of the memory of new requests: see [`lb_common::memory`].
    pub fn memory_word(&self, index: u32) -> Result<u64, AccessError> {
        self.get(&tracks::MEMORY, index)
    }

    /// Overwrites a word of the memory of new requests.
    pub fn set_memory_word(&self, index: u32, word: u64) -> Result<(), AccessError> {
        self.set(&tracks::MEMORY, index, word)
    }

    fn get<T: Shared>(&self, place: &Place<T>, index: u32) -> Result<T, AccessError> {
        let value = self.tracks.get(place, index);
        value.ok_or_else(|| beyond(index, place.len()))
    }

    fn set<T: Shared>(&self, place: &Place<T>, index: u32, value: T) -> Result<(), AccessError> {
        if self.tracks.set(place, index, value) {
            Ok(())
        } else {
            Err(beyond(index, place.len()))
        }
    }

    /// The next sampled event, taken from the ring.
    pub fn next_event(&self) -> Option<Event> {
        let mut ring = lock(&self.events);
        let item = ring.next()?;
        from_bytes(&item)
    }

    /// Becomes readable when events come.
    pub fn events_fd(&self) -> RawFd {
        self.events_fd
    }

    /// Sets the interface of a port.
    pub fn set_port(&self, index: u32, ifindex: u32) -> Result<(), AccessError> {
        lock(&self.ports)
            .set(index, ifindex, None, 0)
            .map_err(|error| {
                let source = match error {
                    aya::maps::xdp::XdpMapError::MapError(error) => error,
                    other => io::Error::other(other).into(),
                };
                AccessError {
                    map: "PORTS",
                    source,
                }
            })
    }

    /// The interface of every port that has one.
    pub fn ports(&self) -> Result<Vec<(u32, u32)>, AccessError> {
        let ports = lock(&self.ports);
        let mut found = Vec::new();
        for index in 0..MAX_PORTS {
            match ports.get(index, 0) {
                Ok(value) => found.push((index, value.if_index)),
                Err(MapError::KeyNotFound) => {}
                Err(source) => {
                    return Err(AccessError {
                        map: "PORTS",
                        source,
                    });
                }
            }
        }
        Ok(found)
    }
}

/// There is no such index in `TRACKS`.
fn beyond(index: u32, max_entries: u32) -> AccessError {
    AccessError {
        map: "TRACKS",
        source: MapError::OutOfBounds { index, max_entries },
    }
}

fn typed<T: TryFrom<Map, Error = MapError>>(
    (map, found): (&'static str, Map),
) -> Result<T, OpenError> {
    T::try_from(found).map_err(|source| OpenError::Map { map, source })
}

/// The descriptor of a map, of the types that the object has.
pub(super) fn descriptor<'a>(name: &'static str, map: &'a Map) -> Result<&'a MapFd, OpenError> {
    match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::RingBuf(data)
        | Map::DevMap(data) => Ok(data.fd()),
        _ => Err(OpenError::Map {
            map: name,
            source: MapError::InvalidMapType { map_type: 0 },
        }),
    }
}

/// Nothing here panics with a lock held, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
