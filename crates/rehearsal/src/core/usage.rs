//! Processor time and memory, as `kubectl top` prints them and as manifests say them.

use std::collections::BTreeMap;

/// What a pod takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Thousandths of a core.
    pub millicores: u64,
    /// Mebibytes.
    pub mebibytes: u64,
}

impl Usage {
    /// The larger of each.
    pub fn max(self, other: Self) -> Self {
        Self { millicores: self.millicores.max(other.millicores), mebibytes: self.mebibytes.max(other.mebibytes) }
    }
}

/// The lines of `kubectl top pods --no-headers`: name, processor time, memory. Of the pods of a Deployment the largest
/// counts; a pod's name ends with two words that Kubernetes has added.
pub fn read_top(text: &str) -> BTreeMap<String, Usage> {
    let mut usages: BTreeMap<String, Usage> = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let (Some(name), Some(processor), Some(memory)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (Some(millicores), Some(mebibytes)) = (millicores(processor), mebibytes(memory)) else { continue };
        let of = usages.entry(deployment_of(name).to_owned()).or_default();
        *of = of.max(Usage { millicores, mebibytes });
    }
    usages
}

/// The Deployment of a pod, by the pod's name.
pub fn deployment_of(pod: &str) -> &str {
    pod.rsplitn(3, '-').nth(2).unwrap_or(pod)
}

/// A quantity of processor time in thousandths of a core: `20m` or `1`.
pub fn millicores(quantity: &str) -> Option<u64> {
    match quantity.strip_suffix('m') {
        Some(thousandths) => thousandths.parse().ok(),
        None => quantity.parse::<u64>().ok().map(|cores| cores * 1000),
    }
}

/// A quantity of memory in mebibytes: `48Mi` or `1Gi`.
pub fn mebibytes(quantity: &str) -> Option<u64> {
    match (quantity.strip_suffix("Mi"), quantity.strip_suffix("Gi")) {
        (Some(mebibytes), _) => mebibytes.parse().ok(),
        (_, Some(gibibytes)) => gibibytes.parse::<u64>().ok().map(|gibibytes| gibibytes * 1024),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_pods_of_a_deployment_the_largest_of_each_counts() {
        let text = "user-manager-5d8f9c-abcde   3m   21Mi\nuser-manager-5d8f9c-fghij   1m   30Mi\n\
                    migrate-0-1-0-xyz   0m   5Mi\nbroken line\n";
        let usages = read_top(text);
        assert_eq!(usages["user-manager"], Usage { millicores: 3, mebibytes: 30 });
        assert_eq!(usages.len(), 2);
    }

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        assert_eq!([millicores("20m"), millicores("2"), millicores("x")], [Some(20), Some(2000), None]);
        assert_eq!([mebibytes("48Mi"), mebibytes("1Gi"), mebibytes("7")], [Some(48), Some(1024), None]);
    }
}
