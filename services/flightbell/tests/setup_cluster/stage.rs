//! A copy of the script on a machine of stand-ins: for kind, the container engine, kubectl and curl. They record how
//! they are called, answer as the real ones do, and remember what they were told.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// What the script may use of the machine beside the stand-ins.
const TOOLS: [&str; 36] = [
    "awk",
    "base64",
    "bash",
    "cat",
    "chmod",
    "cmp",
    "cp",
    "cut",
    "diff",
    "dirname",
    "env",
    "find",
    "grep",
    "head",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "od",
    "ps",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "sh",
    "sha256sum",
    "shasum",
    "sleep",
    "sort",
    "tail",
    "touch",
    "tr",
    "uname",
    "wc",
];
/// The script.
const SETUP_CLUSTER: &str = "setup_cluster.sh";
/// The one that does for Compose what `setup_cluster.sh` does with Secrets, and reads `.env` with the same code.
pub const COMPOSE_SECRETS: &str = "packaging/compose/secrets.sh";
/// The lock of the cluster that `up` makes.
pub const LOCK: &str = "home/.local/share/flightbell/cluster/.lock";
/// A token with what shells and YAML stumble over.
pub const TOKEN: &str = "123456:AA \"b'c #d=$HOME\\e";
/// That token, as it stands in `.env`.
const DOT_ENV: &str = "# credentials\nTELEGRAM_BOT_TOKEN=\"123456:AA \\\"b'c #d=$HOME\\\\e\"\nOTHER=something\n";

pub struct Stage {
    folder: TempDir,
}

/// How a run ended, and what was called in it.
pub struct Run {
    pub code: i32,
    pub said: String,
    pub calls: Vec<String>,
}

impl Stage {
    /// A machine with everything that is needed, and with a token in `.env`.
    pub fn new() -> Self {
        let stage = Self { folder: TempDir::new().unwrap() };
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = source.join("../..");
        for folder in [
            "bin",
            "stage",
            "home",
            "tmp",
            "checkout/k8s/overlays/kind",
            "checkout/packaging/images",
            "checkout/packaging/compose",
        ] {
            fs::create_dir_all(stage.path(folder)).unwrap();
        }
        for name in ["kind", "docker", "curl", "kubectl"] {
            symlink(source.join("tests/setup_cluster/stand_ins").join(name), stage.path("bin").join(name)).unwrap();
        }
        fs::create_dir_all(stage.path("checkout/target/debug")).unwrap();
        let program = source.join("tests/setup_cluster/stand_ins/flightbell");
        symlink(program, stage.path("checkout/target/debug/flightbell")).unwrap();
        stage.link_tools();
        for file in [SETUP_CLUSTER, COMPOSE_SECRETS, "kind-config.yaml", "packaging/images/build.sh", "Dockerfile"] {
            fs::copy(root.join(file), stage.path("checkout").join(file)).unwrap();
        }
        fs::create_dir(stage.path("checkout/k8s/setup")).unwrap();
        for entry in fs::read_dir(root.join("k8s/setup")).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), stage.path("checkout/k8s/setup").join(entry.file_name())).unwrap();
        }
        for folder in ["crates", "services", "proto", "migrations", "packaging/kafka"] {
            fs::create_dir_all(stage.path("checkout").join(folder)).unwrap();
        }
        stage.write("checkout/crates/program.rs", "one");
        stage.write("checkout/Cargo.toml", "[workspace.package]\nversion = \"0.1.0\"\n[workspace.lints]\n");
        stage.write("checkout/Cargo.lock", "");
        stage.write("checkout/.dockerignore", "");
        stage.write("checkout/k8s/overlays/kind/kustomization.yaml", "resources: []\n");
        stage.write("checkout/.env", DOT_ENV);
        stage.write("stage/kind-version", "0.33.0");
        stage.write("stage/kubectl-version", "1.36.4");
        stage.write("stage/curl-version", "8.5.0");
        stage.write("stage/current-context", "kind-flightbell");
        stage.write("stage/images", "");
        fs::copy(source.join("tests/setup_cluster/rendered.yaml"), stage.path("stage/rendered.yaml")).unwrap();
        stage
    }

    /// Links what the machine has of [`TOOLS`].
    fn link_tools(&self) {
        let path = std::env::var_os("PATH").unwrap();
        for tool in TOOLS {
            if let Some(found) =
                std::env::split_paths(&path).map(|folder| folder.join(tool)).find(|file| file.is_file())
            {
                symlink(found, self.path("bin").join(tool)).unwrap();
            }
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    /// Replaces what stands in `name`.
    pub fn replace(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{from} is not in {name}");
        self.write(name, &text.replace(from, to));
    }

    /// Writes a program that comes before the tool of that name.
    pub fn wrap(&self, tool: &str) {
        let link = self.path("bin").join(tool);
        let real = fs::read_link(&link).unwrap();
        fs::remove_file(&link).unwrap();
        // Each argument on one line, so that a secret is found in it.
        let text = format!(
            "#!/bin/bash\nprintf '{tool} %s\\n' \"$*\" >>\"$STAGE/arguments\"\nexec '{}' \"$@\"\n",
            real.display()
        );
        fs::write(&link, text).unwrap();
        fs::set_permissions(&link, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// Runs the script, and leaves nothing of it in its temporary folder.
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, &[])
    }

    /// Runs the script with more in its environment.
    pub fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        self.run_script(SETUP_CLUSTER, arguments, environment)
    }

    /// A script of the checkout on this machine, not started yet.
    pub fn command(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("checkout").join(script));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", self.path("bin"))
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("STAGE", self.path("stage"))
            .stdin(Stdio::null());
        command
    }

    /// Runs a script of the checkout, and leaves nothing of it in its temporary folder.
    pub fn run_script(&self, script: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Run {
        let calls = self.path("stage/calls");
        fs::write(&calls, "").unwrap();
        let mut command = self.command(script, arguments);
        let Output { status, stdout, stderr } = command.envs(environment.iter().copied()).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        let left: Vec<_> = fs::read_dir(self.path("tmp")).unwrap().collect();
        assert!(left.is_empty(), "left in the temporary folder: {left:?}\n{said}");
        let calls = fs::read_to_string(calls).unwrap().lines().map(str::to_owned).collect();
        Run { code: status.code().unwrap_or(-1), said, calls }
    }

    /// Runs the script and expects it to succeed.
    pub fn succeed(&self, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, 0, "{}", run.said);
        run
    }

    /// Runs the script and expects it to end with an error that has these words.
    pub fn fail(&self, arguments: &[&str], words: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, 1, "{}", run.said);
        for words in words {
            assert!(run.said.contains(words), "{words:?} is not said in\n{}", run.said);
        }
        run
    }

    /// The value of a key of a Secret in the cluster.
    pub fn secret(&self, name: &str, key: &str) -> Option<String> {
        let text = self.read(&format!("stage/objects/Secret/{name}"));
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned))?;
        let file = self.path("stage/value");
        fs::write(&file, value).unwrap();
        let decoded = Command::new("base64").arg("--decode").stdin(fs::File::open(file).unwrap()).output().unwrap();
        Some(String::from_utf8(decoded.stdout).unwrap())
    }

    /// Every value of every Secret that is worth hiding.
    pub fn secrets(&self) -> Vec<String> {
        let services = ["user-manager", "data-collector", "alert-system", "notifier"];
        let mut all = vec![self.secret("kafka", "cluster-id"), self.secret("notifier", "telegram-bot-token")];
        all.push(self.secret("postgres", "postgres-password"));
        all.extend(services.iter().map(|service| self.secret("postgres", &format!("{service}-password"))));
        all.into_iter().map(Option::unwrap).collect()
    }
}

impl Run {
    /// The calls that begin with these words.
    pub fn calls_of(&self, words: &str) -> Vec<&str> {
        self.calls.iter().map(String::as_str).filter(|call| call.starts_with(words)).collect()
    }

    /// Whether something begins with these words was called.
    pub fn called(&self, words: &str) -> bool {
        !self.calls_of(words).is_empty()
    }

    /// Expects calls that begin so, in this order, with others between them.
    pub fn in_order(&self, expected: &[&str]) {
        let mut calls = self.calls.iter();
        for words in expected {
            let found = calls.any(|call| call.starts_with(words));
            assert!(found, "{words:?} is not called, or not after those before it, in\n{}", self.calls.join("\n"));
        }
    }

    /// Expects that nothing was changed on the machine or in a cluster.
    pub fn changed_nothing(&self) {
        let changes = [
            "kind create",
            "kind delete",
            "kind load",
            "docker build",
            "docker run",
            "flightbell certs --dir",
            "applied",
        ];
        for words in changes {
            assert!(!self.called(words), "{words:?} was called:\n{}", self.calls.join("\n"));
        }
        assert!(!self.calls.iter().any(|call| call.contains(" annotate ") || call.contains(" delete ")));
    }
}
