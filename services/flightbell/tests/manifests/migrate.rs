//! The Job that migrates the databases is repeated where that can help, and is Failed at once where it cannot.

use flightbell::migrate::EXIT_OTHER_VERSION;
use serde_json::json;

use crate::rendered::renders;

#[test]
fn a_database_that_needs_another_version_fails_the_job_at_once_and_nothing_else_does() {
    for render in renders() {
        let programs = render.programs();
        let job = programs.iter().find(|program| program.name() == "migrate").expect("the job migrate");
        let rule = json!({
            "action": "FailJob",
            "onExitCodes": {"containerName": job.container["name"], "operator": "In", "values": [EXIT_OTHER_VERSION]},
        });
        let spec = &job.workload["spec"];
        assert_eq!(spec["podFailurePolicy"]["rules"], json!([rule]), "{}", render.name);
        assert_eq!(spec["template"]["spec"]["restartPolicy"], "Never", "{}: the policy needs it", render.name);
        assert!(spec["backoffLimit"].as_u64().is_some_and(|limit| limit > 0), "{}", render.name);
    }
}
