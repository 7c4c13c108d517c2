//! Who asks, and what may be permitted.
//!
//! The edges put a [`Principal`] into each request; handlers, idempotency keys and transactions take it from
//! there. Nothing authenticates a person yet: every HTTP request is [`Principal::Anonymous`], and a gRPC caller is
//! the service that it says it is.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use uuid::Uuid;

/// The longest name of a service.
const SERVICE_NAME_LENGTH: usize = 63;

/// Who asks. Its `Debug` shows the kind and no person.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A caller who has not signed in.
    #[default]
    Anonymous,
    /// The registration with this id.
    User(Uuid),
    /// Another service of ours.
    Service(ServiceName),
}

/// The name of a service: 1 to 63 lowercase letters, digits and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceName(Arc<str>);

/// A text that is not the name of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a service's name has 1 to {SERVICE_NAME_LENGTH} lowercase letters, digits and hyphens")]
pub struct InvalidServiceName;

impl Principal {
    /// What kind of principal it is, from a closed set: for spans, logs and metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::User(_) => "user",
            Self::Service(_) => "service",
        }
    }

    /// The principal as databases know it: `anonymous`, `user:<id>` or `service:<name>`. It has lowercase letters,
    /// digits, hyphens and one colon, so that it needs no quoting anywhere.
    #[must_use]
    pub fn key(&self) -> Cow<'static, str> {
        match self {
            Self::Anonymous => Cow::Borrowed("anonymous"),
            Self::User(id) => Cow::Owned(format!("user:{id}")),
            Self::Service(name) => Cow::Owned(format!("service:{name}")),
        }
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "Service({name})"),
            Self::Anonymous | Self::User(_) => f.write_str(self.kind()),
        }
    }
}

impl FromStr for ServiceName {
    type Err = InvalidServiceName;

    fn from_str(text: &str) -> Result<Self, InvalidServiceName> {
        let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = (1..=SERVICE_NAME_LENGTH).contains(&text.len()) && text.bytes().all(is_allowed);
        if is_name { Ok(Self(text.into())) } else { Err(InvalidServiceName) }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something that a role may permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Permission {
    /// Read every registration.
    ViewUsers,
    /// Register, change and delete other people.
    ManageUsers,
    /// Read every interest.
    ViewInterests,
    /// Add, change and remove other people's interests.
    ManageInterests,
    /// Read flights and readings.
    ViewFlights,
    /// Read every alert.
    ViewAlerts,
    /// Read analytics.
    ViewAnalytics,
    /// Export data.
    ExportData,
    /// Give and take roles.
    AssignRoles,
    /// Make, change and delete roles.
    ManagePermissions,
    /// Read the audit.
    ViewAudit,
    /// Change how the system runs.
    ManageOperations,
    /// Read conversations.
    ViewConversations,
    /// Change and delete conversations.
    ManageConversations,
    /// Talk to the assistant.
    Chat,
    /// Moderate a group.
    Moderate,
    /// Make, change and delete groups.
    ManageGroups,
    /// Read what moderation did.
    ViewModeration,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 18] = [
        Self::ViewUsers,
        Self::ManageUsers,
        Self::ViewInterests,
        Self::ManageInterests,
        Self::ViewFlights,
        Self::ViewAlerts,
        Self::ViewAnalytics,
        Self::ExportData,
        Self::AssignRoles,
        Self::ManagePermissions,
        Self::ViewAudit,
        Self::ManageOperations,
        Self::ViewConversations,
        Self::ManageConversations,
        Self::Chat,
        Self::Moderate,
        Self::ManageGroups,
        Self::ViewModeration,
    ];

    /// Its name in the API and in databases.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ViewUsers => "view_users",
            Self::ManageUsers => "manage_users",
            Self::ViewInterests => "view_interests",
            Self::ManageInterests => "manage_interests",
            Self::ViewFlights => "view_flights",
            Self::ViewAlerts => "view_alerts",
            Self::ViewAnalytics => "view_analytics",
            Self::ExportData => "export_data",
            Self::AssignRoles => "assign_roles",
            Self::ManagePermissions => "manage_permissions",
            Self::ViewAudit => "view_audit",
            Self::ManageOperations => "manage_operations",
            Self::ViewConversations => "view_conversations",
            Self::ManageConversations => "manage_conversations",
            Self::Chat => "chat",
            Self::Moderate => "moderate",
            Self::ManageGroups => "manage_groups",
            Self::ViewModeration => "view_moderation",
        }
    }
}

/// A text that names no permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such permission")]
pub struct UnknownPermission;

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text).ok_or(UnknownPermission)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn service(name: &str) -> Principal {
        Principal::Service(name.parse().expect("a name"))
    }

    #[test]
    fn the_debug_of_a_principal_names_no_person() {
        let id = Uuid::from_u128(7);
        assert_eq!(format!("{:?}", Principal::User(id)), "user");
        assert_eq!(format!("{:?}", service("notifier")), "Service(notifier)");
    }

    #[test]
    fn no_two_principals_have_the_same_key_and_no_key_needs_quoting() {
        let principals = [
            Principal::Anonymous,
            Principal::User(Uuid::from_u128(7)),
            Principal::User(Uuid::from_u128(8)),
            service("anonymous"),
            service("user"),
            service("00000000-0000-0000-0000-000000000007"),
        ];
        let keys: BTreeSet<_> = principals.iter().map(Principal::key).collect();
        assert_eq!(keys.len(), principals.len(), "{keys:?}");
        let is_plain = |key: &str| {
            key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b":-".contains(&byte))
        };
        assert!(keys.iter().all(|key| is_plain(key)), "{keys:?}");
    }

    #[test]
    fn a_name_that_is_none_of_ours_is_refused() {
        for name in ["", "Notifier", "a b", "a'", "a;b", "notifier\n", "é", &"x".repeat(64)] {
            assert_eq!(name.parse::<ServiceName>(), Err(InvalidServiceName), "{name}");
        }
    }

    #[test]
    fn every_permission_is_found_under_its_own_name() {
        for permission in Permission::ALL {
            assert_eq!(permission.as_str().parse(), Ok(permission));
        }
        let names: BTreeSet<_> = Permission::ALL.map(Permission::as_str).into();
        assert_eq!(names.len(), Permission::ALL.len());
        assert!("View_Users".parse::<Permission>().is_err());
    }
}
