//! Images: each comes from a target of the Dockerfile, and has a tag that does not move.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::rendered::{self, file, renders};

fn images(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str().filter(|_| name == "image" || name == "imageName") {
                    Some(image) => drop(found.insert(image.to_owned())),
                    None => images(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| images(value, found)),
        _ => {}
    }
}

#[test]
fn every_image_of_ours_is_a_target_of_the_dockerfile_and_none_has_a_tag_that_moves() {
    let dockerfile = file("Dockerfile");
    let targets: BTreeSet<&str> = dockerfile
        .lines()
        .filter(|line| line.to_uppercase().starts_with("FROM "))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    let mut ours = BTreeSet::new();
    for render in renders() {
        let mut found = BTreeSet::new();
        render.objects.iter().for_each(|object| images(object, &mut found));
        for image in found {
            let (name, tag) = image.rsplit_once(':').unwrap_or_else(|| panic!("{}: {image} has no tag", render.name));
            assert!(tag != "latest" && !tag.contains('/'), "{}: {image}", render.name);
            if let Some(target) = rendered::ours(name) {
                assert!(targets.contains(target), "the Dockerfile has no target {target}");
                assert_eq!(tag, env!("CARGO_PKG_VERSION"), "{}: {image}", render.name);
                ours.insert(target.to_owned());
            }
        }
    }
    assert_eq!(ours.len(), 5, "{ours:?}");
}

#[test]
fn images_of_ours_come_from_a_registry_that_is_named_or_are_there_already() {
    for render in renders().into_iter().filter(|render| ["kind", "production", "rehearsal"].contains(&&*render.name)) {
        for program in render.programs() {
            let image = program.container["image"].as_str().expect("an image");
            let is_there = program.container["imagePullPolicy"] == "Never";
            let is_named = image.split('/').next().is_some_and(|registry| registry.contains('.'));
            assert!(is_there || is_named, "{}: whose {image} would a node fetch?", render.name);
        }
    }
}

#[test]
fn jobs_bear_the_release_in_their_names_since_their_pods_cannot_be_changed() {
    let suffix = format!("-{}", env!("CARGO_PKG_VERSION").replace('.', "-"));
    for render in renders() {
        let jobs: Vec<_> = render.of_kind("Job").map(|job| job["metadata"]["name"].as_str().expect("a name")).collect();
        assert!(jobs.contains(&format!("migrate{suffix}").as_str()), "{}: {jobs:?}", render.name);
        assert!(jobs.iter().all(|name| name.ends_with(&suffix)), "{}: {jobs:?}", render.name);
    }
}

#[test]
fn no_secret_has_a_value_in_the_repository() {
    let template = file("k8s/base/secrets.template.yaml");
    let of_template = crate::rendered::documents(&template);
    let of_renders = renders().into_iter().flat_map(|render| render.objects);
    let mut seen = 0;
    for secret in of_template.into_iter().chain(of_renders).filter(|object| object["kind"] == "Secret") {
        for field in ["data", "stringData"] {
            for (key, value) in secret[field].as_object().into_iter().flatten() {
                let is_name = key == "username";
                assert!(is_name || value == "", "{} {key} has a value", secret["metadata"]["name"]);
            }
        }
        seen += 1;
    }
    assert!(seen > 5, "only {seen} Secrets were found");
}
