//! Manifests, read.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::Value;

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository")
}

/// A file of the repository.
pub fn file(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// The documents of a YAML text.
pub fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).expect("YAML")
}

/// The last part of the name of an image of ours, at whichever registry.
pub fn ours(image: &str) -> Option<&str> {
    let (registry, name) = image.rsplit_once("flightbell/")?;
    (registry.is_empty() || registry.ends_with('/')).then_some(name)
}

/// All objects of one overlay, or of one combination of components.
pub struct Render {
    pub name: String,
    pub objects: Vec<Value>,
}

/// Every render, the three overlays among them.
pub fn renders() -> Vec<Render> {
    let folder = std::env::var("FLIGHTBELL_MANIFESTS").expect("FLIGHTBELL_MANIFESTS: run `make check-k8s`");
    let mut renders = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder of renders") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let objects = documents(&fs::read_to_string(path).expect("a render"));
            renders.push(Render { name, objects });
        }
    }
    for overlay in ["kind", "production", "rehearsal"] {
        assert!(renders.iter().any(|render| render.name == overlay), "no render of {overlay}");
    }
    renders
}

impl Render {
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// The only container of each workload that runs a program of ours.
    pub fn programs(&self) -> Vec<Program<'_>> {
        let workloads = self.of_kind("Deployment").chain(self.of_kind("Job"));
        workloads.filter_map(|workload| Program::of(self, workload)).collect()
    }

    fn config_map(&self, name: &str) -> BTreeMap<String, String> {
        let map = self.of_kind("ConfigMap").find(|map| map["metadata"]["name"] == name);
        let map = map.unwrap_or_else(|| panic!("{}: there is no ConfigMap {name}", self.name));
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        map["data"].as_object().expect("data").iter().map(|(key, value)| (key.clone(), text(value))).collect()
    }
}

/// A container of ours.
pub struct Program<'a> {
    pub workload: &'a Value,
    pub container: &'a Value,
    /// The last part of the image's name.
    pub image: &'a str,
    /// Variables of the container alone.
    pub own: BTreeMap<String, String>,
    /// Variables of ConfigMaps, which several may share.
    pub shared: BTreeMap<String, String>,
}

impl<'a> Program<'a> {
    fn of(render: &'a Render, workload: &'a Value) -> Option<Self> {
        let containers = workload["spec"]["template"]["spec"]["containers"].as_array().expect("containers");
        let [container] = containers.as_slice() else { return None };
        let image = ours(container["image"].as_str()?.split(':').next()?)?;
        let maps = container["envFrom"].as_array().map_or(&[][..], Vec::as_slice).iter();
        let names = maps.map(|source| source["configMapRef"]["name"].as_str().expect("a ConfigMap"));
        let shared = names.flat_map(|name| render.config_map(name)).collect();
        let variables = container["env"].as_array().map_or(&[][..], Vec::as_slice).iter();
        let variable = |variable: &Value| {
            // What is a Secret's has a value in a cluster alone.
            let value = variable["value"].as_str().unwrap_or("of-a-secret");
            (variable["name"].as_str().expect("a name").to_owned(), value.to_owned())
        };
        Some(Self { workload, container, image, own: variables.map(variable).collect(), shared })
    }

    pub fn name(&self) -> &'a str {
        self.workload["metadata"]["labels"]["app.kubernetes.io/name"].as_str().expect("a name")
    }

    /// The arguments of the program.
    pub fn args(&self) -> Vec<&'a str> {
        let args = self.container["args"].as_array().map_or(&[][..], Vec::as_slice).iter();
        args.map(|arg| arg.as_str().expect("text")).collect()
    }

    /// Its ports by name.
    pub fn ports(&self) -> BTreeMap<&'a str, u64> {
        let ports = self.container["ports"].as_array().map_or(&[][..], Vec::as_slice).iter();
        let port = |port: &'a Value| {
            (port["name"].as_str().expect("a name"), port["containerPort"].as_u64().expect("a number"))
        };
        ports.map(port).collect()
    }
}
