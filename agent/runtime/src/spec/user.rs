//! Who a container runs as: the Pod's numbers, or the image's `USER`, looked up in the image's own files.

use std::path::Path;

use weft_api::view::pod::{Container, Pod};

use crate::beneath;

/// UID, GID and further groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// The image's user does not exist in it.
#[derive(Debug, thiserror::Error)]
#[error("image user {0:?} is not in the image's /etc/passwd or /etc/group")]
pub(crate) struct UserError(String);

/// Bytes of `/etc/passwd` and `/etc/group` that are read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Finds the user; `image_user` is `USER[:GROUP]`, names or numbers.
pub(crate) fn find(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    root: &Path,
) -> Result<User, UserError> {
    // An image without the files has only numbers.
    let read = |file: &str| beneath::read_in_root(root, Path::new(file), FILE_BYTES_MAX).unwrap_or_default();
    let (passwd, group) = (read("etc/passwd"), read("etc/group"));
    let mut user = resolve(image_user, &passwd, &group)?;
    let common = &pod.spec.security_context;
    let own = container.security_context.clone().unwrap_or_default();
    if let Some(uid) = own.run_as_user.or(common.run_as_user) {
        user = resolve(&uid.to_string(), &passwd, &group)?;
    }
    if let Some(gid) = own.run_as_group.or(common.run_as_group) {
        user.gid = gid;
    }
    if common.supplemental_groups_policy == "Strict" {
        user.groups.clear();
    }
    user.groups.extend(&common.supplemental_groups);
    user.groups.extend(common.fs_group);
    user.groups.sort_unstable();
    user.groups.dedup();
    Ok(user)
}

fn resolve(text: &str, passwd: &str, group: &str) -> Result<User, UserError> {
    let (name, group_name) = text.split_once(':').unwrap_or((text, ""));
    let name = if name.is_empty() { "0" } else { name };
    let rows = || passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(|r| r.len() >= 4);
    let number = name.parse::<u32>().ok();
    let row = rows().find(|r| r[0] == name || (number.is_some() && r[2].parse().ok() == number));
    let uid =
        row.as_ref().and_then(|r| r[2].parse().ok()).or(number).ok_or_else(|| UserError(text.to_owned()))?;
    let mut gid = row.as_ref().and_then(|r| r[3].parse().ok()).unwrap_or(0);
    let groups = || group.lines().map(|l| l.split(':').collect::<Vec<_>>()).filter(|r| r.len() >= 3);
    if !group_name.is_empty() {
        let known = groups().find(|r| r[0] == group_name).and_then(|r| r[2].parse().ok());
        gid = group_name.parse().ok().or(known).ok_or_else(|| UserError(text.to_owned()))?;
    }
    let login = row.as_ref().map_or("", |r| r[0]);
    let member = |r: &Vec<&str>| r.len() >= 4 && !login.is_empty() && r[3].split(',').any(|m| m == login);
    let further = groups().filter(member).filter_map(|r| r[2].parse().ok()).filter(|g| *g != gid).collect();
    Ok(User { uid, gid, groups: further })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\nweb:x:33:44::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:web,other\n";

    #[test]
    fn names_and_numbers_are_found() {
        let of = |text| resolve(text, PASSWD, GROUP).unwrap();
        assert_eq!(of(""), User { uid: 0, gid: 0, groups: vec![] });
        assert_eq!(of("web"), User { uid: 33, gid: 44, groups: vec![50] });
        assert_eq!(of("33"), of("web"));
        assert_eq!(of("1234:staff"), User { uid: 1234, gid: 50, groups: vec![] });
        assert!(resolve("nobody", PASSWD, GROUP).is_err());
    }

    #[test]
    fn strict_groups_leave_the_images_out() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), PASSWD).unwrap();
        std::fs::write(dir.path().join("etc/group"), GROUP).unwrap();
        let groups = |policy: &str| {
            let mut pod = Pod::default();
            pod.spec.security_context.supplemental_groups = vec![7];
            pod.spec.security_context.supplemental_groups_policy = policy.into();
            find(&pod, &Container::default(), "web", dir.path()).unwrap().groups
        };
        assert_eq!(groups("Merge"), [7, 50]);
        assert_eq!(groups("Strict"), [7]);
    }
}
