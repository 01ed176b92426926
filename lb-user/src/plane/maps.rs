//! The maps, typed. The only place that reads or writes them.
//!
//! All methods take `&self`: a map update is atomic per element in the kernel, and the locks here
//! only serve aya's signatures.

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
    BeaconKey, Counts, Event, MAX_PORTS, Node, NodeStatus, Pin, Settings, StatusPlane,
    TABLE_ELEMENTS, TABLE_PACK, TABLE_SLOTS, Turnout, Vip, table_place,
};

use super::batch;
pub use super::batch::{Batch, Cursor};
use super::hints::PinHints;
use super::raw::{Raw, from_bytes};
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
    settings: Slots<Settings>,
    turnout: Slots<Turnout>,
    vips: Slots<Vip>,
    table: Slots<u64>,
    nodes: Slots<Node>,
    status: Slots<NodeStatus>,
    plane: Slots<StatusPlane>,
    keys: Slots<BeaconKey>,
    memory: Slots<u64>,
    pins: Mutex<HashMap<MapData, u64, Raw<Pin>>>,
    pins_fd: OwnedFd,
    max_pins: u32,
    pin_hints: PinHints,
    counts: PerCpuArray<MapData, Raw<Counts>>,
    vip_counts: Mutex<PerCpuArray<MapData, u64>>,
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
        let (name, hints) = take("PIN_HINTS")?;
        let pin_hints =
            PinHints::map(descriptor(name, &hints)?.as_fd()).map_err(|error| OpenError::Map {
                map: "PIN_HINTS",
                source: error.into(),
            })?;
        let events: RingBuf<MapData> = typed(take("EVENTS")?)?;
        Ok(Self {
            settings: Slots::new(take("SETTINGS")?)?,
            turnout: Slots::new(take("TURNOUT")?)?,
            vips: Slots::new(take("VIPS")?)?,
            table: Slots::new(take("TABLE")?)?,
            nodes: Slots::new(take("NODES")?)?,
            status: Slots::new(take("STATUS")?)?,
            plane: Slots::new(take("PLANE")?)?,
            keys: Slots::new(take("KEYS")?)?,
            memory: Slots::new(take("MEMORY")?)?,
            pins: Mutex::new(pins),
            pins_fd,
            max_pins,
            pin_hints,
            counts: typed(take("COUNTS")?)?,
            vip_counts: Mutex::new(typed(take("VIP_COUNTS")?)?),
            events_fd: events.as_raw_fd(),
            events: Mutex::new(events),
            ports: Mutex::new(typed(take("PORTS")?)?),
        })
    }

    /// The controller's settings.
    ///
    /// # Errors
    /// [`AccessError`], here as everywhere below: the kernel refused the system call.
    pub fn settings(&self) -> Result<Settings, AccessError> {
        self.settings.get(0)
    }

    /// Writes the settings.
    pub fn set_settings(&self, settings: Settings) -> Result<(), AccessError> {
        self.settings.set(0, settings)
    }

    /// Which table steers.
    pub fn turnout(&self) -> Result<Turnout, AccessError> {
        self.turnout.get(0)
    }

    /// Throws the switch: one store, seen by the next packet.
    pub fn set_turnout(&self, turnout: Turnout) -> Result<(), AccessError> {
        self.turnout.set(0, turnout)
    }

    /// Fills a generation of the steering table: the node of each slot. Slots beyond the slice get
    /// no node.
    pub fn set_table(&self, generation: u32, nodes: &[u16]) -> Result<(), AccessError> {
        let element = |index: u32| {
            (0..TABLE_PACK).fold(0, |element, offset| {
                let slot = (index * TABLE_PACK + offset) as usize;
                element | u64::from(nodes.get(slot).copied().unwrap_or(0)) << (offset * 16)
            })
        };
        let elements: Vec<u64> = (0..TABLE_ELEMENTS).map(element).collect();
        batch::write_array(
            self.table.fd.as_fd(),
            table_place(generation, 0).0,
            &elements,
        )
        .map_err(|error| self.table.error(error.into()))
    }

    /// A generation of the steering table: the node of each slot.
    pub fn table(&self, generation: u32) -> Result<Vec<u16>, AccessError> {
        let mut elements = vec![0u64; TABLE_ELEMENTS as usize];
        batch::read_array(
            self.table.fd.as_fd(),
            table_place(generation, 0).0,
            &mut elements,
        )
        .map_err(|error| self.table.error(error.into()))?;
        let slots = elements.into_iter().flat_map(|element| {
            (0..TABLE_PACK).map(move |offset| (element >> (offset * 16)) as u16)
        });
        Ok(slots.take(TABLE_SLOTS as usize).collect())
    }

    /// The node that a generation of the table gives for one slot.
    pub fn home(&self, generation: u32, slot: u32) -> Result<u16, AccessError> {
        let (element, shift) = table_place(generation, slot);
        Ok((self.table.get(element)? >> shift) as u16)
    }

    /// What the controller says of a node.
    pub fn node(&self, id: u16) -> Result<Node, AccessError> {
        self.nodes.get(id.into())
    }

    /// Says something of a node.
    pub fn set_node(&self, id: u16, node: Node) -> Result<(), AccessError> {
        self.nodes.set(id.into(), node)
    }

    /// What a node's beacons say.
    pub fn status(&self, id: u16) -> Result<NodeStatus, AccessError> {
        self.status.get(id.into())
    }

    /// Overwrites what a node's beacons said: for tests and `explain`; the program owns it.
    pub fn set_status(&self, id: u16, status: NodeStatus) -> Result<(), AccessError> {
        self.status.set(id.into(), status)
    }

    /// The status plane as a whole.
    pub fn plane_status(&self) -> Result<StatusPlane, AccessError> {
        self.plane.get(0)
    }

    /// Overwrites it: for tests and `explain`; the program owns it.
    pub fn set_plane_status(&self, plane: StatusPlane) -> Result<(), AccessError> {
        self.plane.set(0, plane)
    }

    /// A beacon key.
    pub fn key(&self, id: u8) -> Result<BeaconKey, AccessError> {
        self.keys.get(id.into())
    }

    /// Sets a beacon key.
    pub fn set_key(&self, id: u8, key: BeaconKey) -> Result<(), AccessError> {
        self.keys.set(id.into(), key)
    }

    /// A word of the memory of new requests: see [`lb_common::memory`].
    pub fn memory_word(&self, index: u32) -> Result<u64, AccessError> {
        self.memory.get(index)
    }

    /// Overwrites a word of the memory of new requests.
    pub fn set_memory_word(&self, index: u32, word: u64) -> Result<(), AccessError> {
        self.memory.set(index, word)
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

/// An array of shared values.
struct Slots<T: Shared> {
    name: &'static str,
    fd: OwnedFd,
    map: Mutex<Array<MapData, Raw<T>>>,
}

impl<T: Shared> Slots<T> {
    fn new((name, map): (&'static str, Map)) -> Result<Self, OpenError> {
        let fd = descriptor(name, &map)?.as_fd().try_clone_to_owned();
        let fd = fd.map_err(|error| OpenError::Map {
            map: name,
            source: error.into(),
        })?;
        Ok(Self {
            name,
            fd,
            map: Mutex::new(typed((name, map))?),
        })
    }

    fn get(&self, index: u32) -> Result<T, AccessError> {
        let value = lock(&self.map).get(&index, 0);
        value
            .map(|Raw(value)| value)
            .map_err(|source| self.error(source))
    }

    fn set(&self, index: u32, value: T) -> Result<(), AccessError> {
        lock(&self.map)
            .set(index, Raw(value), 0)
            .map_err(|source| self.error(source))
    }

    fn error(&self, source: MapError) -> AccessError {
        AccessError {
            map: self.name,
            source,
        }
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
