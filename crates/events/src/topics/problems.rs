use std::{collections::BTreeMap, fmt};

use super::{Topic, retry_topic};

/// The longest name that Kafka takes.
const LONGEST_NAME: usize = 249;

/// Tables that cannot be used together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongTable(Vec<String>);

impl fmt::Display for WrongTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the table of topics cannot be used: {}", self.0.join("; "))
    }
}

impl std::error::Error for WrongTable {}

/// Several tables as one. A row may stand in more than one of them.
///
/// # Errors
/// Everything that is wrong in the rows: the same name with different content, a group that two services
/// claim or that reads a topic twice, a name that Kafka does not take.
pub fn merged(tables: impl IntoIterator<Item = &'static [Topic]>) -> Result<Vec<Topic>, WrongTable> {
    let (mut rows, mut problems) = (Vec::<Topic>::new(), Vec::new());
    for row in tables.into_iter().flatten() {
        match rows.iter().find(|known| known.name == row.name) {
            Some(known) if known == row => {}
            Some(_) => problems.push(format!("two rows name {} and differ: keep one", row.name)),
            None => rows.push(*row),
        }
    }
    let mut services = BTreeMap::new();
    for row in &rows {
        for (place, group) in row.groups.iter().enumerate() {
            let service = *services.entry(group.name).or_insert(group.service);
            if service != group.service {
                problems.push(format!("group {} belongs to {service} and to {}", group.name, group.service));
            }
            if row.groups[..place].iter().any(|earlier| earlier.name == group.name) {
                problems.push(format!("group {} stands twice at {}", group.name, row.name));
            }
        }
        let names = row.groups.iter().map(|group| retry_topic(row.name, group.name));
        for name in names.chain([row.name.to_owned()]).filter(|name| !is_name(name)) {
            problems.push(format!("{name:?} is no name that Kafka takes: letters, digits, '.', '_' and '-'"));
        }
    }
    if problems.is_empty() { Ok(rows) } else { Err(WrongTable(problems)) }
}

fn is_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(is_legal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::{Group, TO_NOTIFIER, TOPICS};

    const OF_OTHER: Group = Group { name: "notifier", service: "greeter" };
    static TWO_SERVICES: &[Topic] = &[Topic { name: "greetings", groups: &[OF_OTHER], ..TO_NOTIFIER }];
    static TWICE: &[Topic] = &[Topic { name: "greetings", groups: &[OF_OTHER, OF_OTHER], ..TO_NOTIFIER }];
    static OTHER_OWNER: &[Topic] = &[Topic { owner: "greeter", ..TO_NOTIFIER }];
    static NO_NAME: &[Topic] = &[Topic { name: "two words", groups: &[], ..TO_NOTIFIER }];

    #[test]
    fn a_row_may_stand_in_several_tables() {
        assert_eq!(merged([TOPICS, TOPICS]), Ok(TOPICS.to_vec()));
    }

    #[test]
    fn everything_that_is_wrong_in_the_rows_is_told() {
        let told = |table| merged([TOPICS, table]).expect_err("a problem").to_string();
        assert!(told(OTHER_OWNER).contains("two rows name to-notifier and differ"));
        assert!(told(TWO_SERVICES).contains("group notifier belongs to notifier and to greeter"));
        assert!(told(TWICE).contains("stands twice at greetings"));
        assert!(told(NO_NAME).contains("\"two words\" is no name"));
    }
}
