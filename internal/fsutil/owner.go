package fsutil

import (
	"os/user"
	"strconv"
)

// Owner is a user with its group, as chown(1) takes them.
func Owner(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return strconv.Itoa(uid)
	}
	group, err := user.LookupGroupId(u.Gid)
	if err != nil {
		return u.Username
	}
	return u.Username + ":" + group.Name
}
