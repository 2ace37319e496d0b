//! Random events of a parent and its children.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use wasmop_core::watch::{ObjectBudget, Reader, ResourceVersion};

use super::*;
use crate::watch::derivation::{Derivation, labels_of};
use crate::watch::derived::{Attachment, link};
use crate::watch::shared_watch::{SharedWatch, State};

/// Events of a parent and its children.
#[derive(Clone, Debug)]
enum Step {
    /// Creates or changes the object with this namespace, name and label.
    Set(u8, u8, u8),
    Delete(u8, u8),
    /// Lists at most this many further objects; the list is complete if none is left.
    List(u8),
    Attach(usize),
    Detach(usize),
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2u8, 0..3u8, 0..3u8).prop_map(|(namespace, name, app)| Step::Set(namespace, name, app)),
        3 => (0..2u8, 0..3u8).prop_map(|(namespace, name)| Step::Delete(namespace, name)),
        2 => (0..9u8).prop_map(Step::List),
        4 => (0..4usize).prop_map(Step::Attach),
        1 => (0..4usize).prop_map(Step::Detach),
        1 => Just(Step::Close),
    ]
}

/// A watch, its request, and the objects that a subscriber derives from its events.
struct Watch {
    shared: Arc<SharedWatch>,
    events: UnboundedReceiver<Delivery>,
    model: BTreeMap<Key, ResourceVersion>,
    request: WatchRequest,
    attachment: Option<Attachment>,
}

impl Watch {
    fn new(request: WatchRequest) -> Watch {
        let (sender, events) = unbounded_channel();
        let shared = Arc::new(SharedWatch {
            id: WatchId(0),
            events: sender,
            state: Mutex::new(State { whole: request.full_objects, ..State::default() }),
            journal: None,
            start: None,
            room: Arc::new(ObjectBudget::default()),
            flow: Arc::default(),
            widened: Notify::new(),
            parent_changed: Notify::new(),
        });
        Watch { shared, events, model: BTreeMap::new(), request, attachment: None }
    }

    /// Applies the events to the model.
    fn listen(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            match event.event.change {
                Change::Applied { key, meta, old, .. } => {
                    let known = self.model.insert(key, meta.resource_version);
                    assert_eq!(known, old.map(|old| old.resource_version));
                }
                Change::Deleted { key, .. } => assert!(self.model.remove(&key).is_some()),
                _ => {}
            }
        }
    }

    fn held(&self) -> BTreeMap<Key, ResourceVersion> {
        let state = self.shared.state();
        state.index.keys().map(|key| (key.clone(), state.index.get(key).unwrap().resource_version)).collect()
    }
}

proptest! {
    #[test]
    fn attached_child_holds_the_matching_objects_of_its_parent(
        whole_objects in any::<bool>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let with = |request: WatchRequest| if whole_objects { whole(request) } else { request };
        let mut parent = Watch::new(with(request()));
        let requests = [in_a(), labelled(), WatchRequest { namespace: Some("a".into()), ..labelled() }, with(in_a())];
        let mut children: Vec<_> = requests.into_iter().map(Watch::new).collect();
        for watch in &children {
            link(&parent.shared, &watch.shared, Derivation::between(&parent.request, &watch.request).unwrap());
        }
        let mut there: BTreeMap<String, Value> = BTreeMap::new();
        let mut version = 0;
        let mut listing: Option<Vec<Value>> = None;
        let mut closed = false;
        let mut reader = Reader::new(whole_objects.then(|| ("demo.wasmop.dev/v1".into(), "Website".into())));
        for step in steps {
            let key = |namespace, name| format!("{}/{name}", ["a", "b"][usize::from(namespace)]);
            let begun = parent.shared.state().index.has_begun();
            match step {
                Step::Set(namespace, name, app) => {
                    version += 1;
                    let object = with_app(&key(namespace, name), version, ["x", "y", "z"][usize::from(app)]);
                    there.insert(key(namespace, name), object.clone());
                    if begun && listing.is_none() && !closed {
                        let text = object.to_string();
                        let item = reader.read(&text).unwrap();
                        parent.shared.apply(item.seen, item.labels);
                        parent.shared.set_position(Some(version));
                    }
                }
                Step::Delete(namespace, name) => {
                    let Some(object) = there.remove(&key(namespace, name)) else { continue };
                    version += 1;
                    if begun && listing.is_none() && !closed {
                        parent.shared.delete(reader.read(&object.to_string()).unwrap().seen);
                        parent.shared.set_position(Some(version));
                    }
                }
                Step::List(count) if !closed => {
                    let rest = listing.take().unwrap_or_else(|| {
                        parent.shared.begin_list();
                        there.values().cloned().collect()
                    });
                    // A list shows one moment; the watch after it brings later changes.
                    let (now, later) = rest.split_at(usize::from(count).min(rest.len()));
                    for object in now {
                        let text = object.to_string();
                        let item = reader.read(&text).unwrap();
                        parent.shared.apply(item.seen, item.labels);
                    }
                    listing = Some(later.to_vec());
                    if later.is_empty() {
                        listing = None;
                        parent.shared.finish_list();
                        for (key, object) in &there {
                            let text = object.to_string();
                            let item = reader.read(&text).unwrap();
                            let known = parent.shared.state().index.get(key).map(|meta| meta.resource_version);
                            if known != Some(item.seen.meta.resource_version) {
                                parent.shared.apply(item.seen, item.labels);
                            }
                        }
                        let gone: Vec<_> = parent.held().into_keys().filter(|key| !there.contains_key(&**key)).collect();
                        for key in gone {
                            parent.shared.delete(reader.read(&object(&key, version).to_string()).unwrap().seen);
                        }
                        parent.shared.set_position(Some(version));
                        parent.shared.synced();
                    }
                }
                Step::List(_) => {}
                Step::Attach(n) => {
                    if children[n].attachment.is_none() {
                        children[n].attachment = children[n].shared.attach();
                        prop_assert!(!closed || children[n].attachment.is_none());
                    }
                }
                Step::Detach(n) => children[n].attachment = None,
                Step::Close => {
                    parent.shared.close();
                    closed = true;
                    prop_assert!(!parent.shared.state().has_attached_children());
                }
            }
            parent.listen();
            prop_assert_eq!(&parent.model, &parent.held());
            for watch in &mut children {
                watch.listen();
                prop_assert_eq!(&watch.model, &watch.held());
                let is_in_order = watch.shared.state().synced && listing.is_none();
                if watch.attachment.is_some() && !closed && is_in_order {
                    let derivation = Derivation::between(&parent.request, &watch.request).unwrap();
                    let matches = |key: &Key| {
                        let text = there[&**key].to_string();
                        derivation.contains(key, labels_of(&text))
                    };
                    let expected: BTreeMap<_, _> = parent.held().into_iter().filter(|(key, _)| matches(key)).collect();
                    prop_assert_eq!(watch.held(), expected);
                    prop_assert_eq!(watch.shared.state().position, parent.shared.state().position);
                }
                let state = watch.shared.state();
                prop_assert!(watch.request.full_objects || state.index.keys().all(|key| state.index.object(key).is_none()));
            }
        }
    }
}
