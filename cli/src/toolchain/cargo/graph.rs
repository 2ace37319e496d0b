//! The crates a project is built from, and by which of its dependencies each of them comes in.

use std::collections::{BTreeMap, VecDeque};

use cargo_metadata::{Dependency, Metadata, Package, PackageId};
use semver::Version;

/// The dependency graph of one package of a workspace.
pub struct Graph {
    packages: BTreeMap<PackageId, Package>,
    edges: BTreeMap<PackageId, Vec<PackageId>>,
    root: PackageId,
    /// Active in the root.
    features: Vec<String>,
}

impl Graph {
    pub fn new(metadata: &Metadata, root: &PackageId) -> Graph {
        let packages = metadata.packages.iter().map(|package| (package.id.clone(), package.clone())).collect();
        let nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
        let edges = nodes.map(|node| (node.id.clone(), node.dependencies.clone())).collect();
        let mut nodes = metadata.resolve.iter().flat_map(|resolve| &resolve.nodes);
        let features = nodes.find(|node| node.id == *root).map(|node| &node.features);
        let features = features.into_iter().flatten().map(ToString::to_string).collect();
        Graph { packages, edges, root: root.clone(), features }
    }

    /// The features that are active in the project's own package.
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// The project's own package.
    pub fn root(&self) -> Option<&Package> {
        self.packages.get(&self.root)
    }

    /// Everything the project is built from, itself included.
    pub fn reachable(&self) -> Vec<&Package> {
        self.origins().into_keys().filter_map(|id| self.packages.get(id)).collect()
    }

    /// The first crate of this name, and of this version if it is given.
    pub fn find(&self, name: &str, version: Option<&Version>) -> Option<&Package> {
        let wanted = |package: &&Package| {
            package.name.as_str() == name && version.is_none_or(|version| package.version == *version)
        };
        self.reachable().into_iter().find(wanted)
    }

    /// The shortest way from the project's package to a crate, both included; empty if there is none.
    pub fn path_to(&self, id: &PackageId) -> Vec<&Package> {
        let origins = self.origins();
        let mut path = Vec::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let Some(origin) = origins.get(id) else { return Vec::new() };
            path.extend(self.packages.get(id));
            next = *origin;
        }
        path.reverse();
        path
    }

    /// How the project's own `Cargo.toml` names a dependency.
    pub fn declared(&self, name: &str) -> Option<&Dependency> {
        self.root()?.dependencies.iter().find(|dependency| dependency.name == name)
    }

    /// Each reachable crate and the crate before it on a shortest way from the root.
    fn origins(&self) -> BTreeMap<&PackageId, Option<&PackageId>> {
        let mut origins: BTreeMap<&PackageId, Option<&PackageId>> = BTreeMap::from([(&self.root, None)]);
        let mut next = VecDeque::from([&self.root]);
        while let Some(id) = next.pop_front() {
            for dependency in self.edges.get(id).into_iter().flatten() {
                if !origins.contains_key(dependency) {
                    origins.insert(dependency, Some(id));
                    next.push_back(dependency);
                }
            }
        }
        origins
    }
}
