package container

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"clipper.dev/clipper/internal/runtime/image"
)

// User is whom a container's processes run as.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary, the primary one included
	Name     string   // empty if the image has none for the UID
	Home     string
}

func (u User) status() *runtimeapi.ContainerUser {
	linux := &runtimeapi.LinuxContainerUser{Uid: int64(u.UID), Gid: int64(u.GID)}
	for _, gid := range u.Groups {
		linux.SupplementalGroups = append(linux.SupplementalGroups, int64(gid))
	}
	return &runtimeapi.ContainerUser{Linux: linux}
}

// account is a line of /etc/passwd.
type account struct {
	name     string
	uid, gid uint32
	home     string
}

// maxAccountsBytes bounds how much of an image's account files is read.
const maxAccountsBytes = 4 << 20

// resolveUser finds the user of a container: the pod's wish, else the image's, with names and groups
// looked up in the image.
func resolveUser(context *runtimeapi.LinuxContainerSecurityContext, imageUser string, files image.Tree) (User, error) {
	if context.GetRunAsGroup() != nil && context.GetRunAsUser() == nil && context.GetRunAsUsername() == "" {
		return User{}, fmt.Errorf("user group %q is specified without user", strconv.FormatInt(context.GetRunAsGroup().GetValue(), 10))
	}
	name, group := wantedUser(context, imageUser)
	accounts, err := readAccounts(files)
	if err != nil {
		return User{}, err
	}
	user, err := lookupUser(name, accounts)
	if err != nil {
		return User{}, err
	}
	groups, err := readGroups(files)
	if err != nil {
		return User{}, err
	}
	if group != "" {
		if user.GID, err = lookupGroup(group, groups); err != nil {
			return User{}, err
		}
	}
	if context.GetRunAsGroup() != nil {
		user.GID = uint32(context.GetRunAsGroup().GetValue())
	}
	user.Groups = []uint32{user.GID}
	for _, gid := range context.GetSupplementalGroups() {
		user.Groups = append(user.Groups, uint32(gid))
	}
	if context.GetSupplementalGroupsPolicy() == runtimeapi.SupplementalGroupsPolicy_Merge && user.Name != "" {
		for _, g := range groups {
			if slices.Contains(g.members, user.Name) {
				user.Groups = append(user.Groups, g.gid)
			}
		}
	}
	slices.Sort(user.Groups)
	user.Groups = slices.Compact(user.Groups)
	return user, nil
}

// wantedUser tells the user and, from an image's "user:group" only, the group.
func wantedUser(context *runtimeapi.LinuxContainerSecurityContext, imageUser string) (user, group string) {
	if context.GetRunAsUser() != nil {
		return strconv.FormatInt(context.GetRunAsUser().GetValue(), 10), ""
	}
	if context.GetRunAsUsername() != "" {
		return context.GetRunAsUsername(), ""
	}
	user, group, _ = strings.Cut(imageUser, ":")
	return user, group
}

func lookupUser(name string, accounts []account) (User, error) {
	if name == "" {
		name = "0"
	}
	if number, err := strconv.ParseUint(name, 10, 31); err == nil {
		for _, a := range accounts {
			if a.uid == uint32(number) {
				return User{UID: a.uid, GID: a.gid, Name: a.name, Home: a.home}, nil
			}
		}
		return User{UID: uint32(number)}, nil
	}
	for _, a := range accounts {
		if a.name == name {
			return User{UID: a.uid, GID: a.gid, Name: a.name, Home: a.home}, nil
		}
	}
	return User{}, fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)
}

type group struct {
	name    string
	gid     uint32
	members []string
}

func lookupGroup(name string, groups []group) (uint32, error) {
	for _, g := range groups {
		if g.name == name {
			return g.gid, nil
		}
	}
	if number, err := strconv.ParseUint(name, 10, 31); err == nil {
		return uint32(number), nil
	}
	return 0, fmt.Errorf("unable to find group %s: no matching entries in group file", name)
}

func readAccounts(files image.Tree) ([]account, error) {
	var accounts []account
	err := eachLine(files, "etc/passwd", func(fields []string) {
		if len(fields) < 6 {
			return
		}
		uid, err := strconv.ParseUint(fields[2], 10, 32)
		gid, gidErr := strconv.ParseUint(fields[3], 10, 32)
		if errors.Join(err, gidErr) == nil {
			accounts = append(accounts, account{fields[0], uint32(uid), uint32(gid), fields[5]})
		}
	})
	return accounts, err
}

func readGroups(files image.Tree) ([]group, error) {
	var groups []group
	err := eachLine(files, "etc/group", func(fields []string) {
		if len(fields) < 4 {
			return
		}
		if gid, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			groups = append(groups, group{fields[0], uint32(gid), strings.Split(fields[3], ",")})
		}
	})
	return groups, err
}

// eachLine reads a file of fields between colons; an image without the file has no lines.
func eachLine(files image.Tree, path string, each func(fields []string)) error {
	file, err := files.Open(path)
	if err != nil {
		return nil //nolint:nilerr // a missing, dangling or unreadable file means no accounts, as in other runtimes
	}
	defer file.Close()
	scanner := bufio.NewScanner(io.LimitReader(file, maxAccountsBytes))
	for scanner.Scan() {
		if line := strings.TrimSpace(scanner.Text()); line != "" && line[0] != '#' {
			each(strings.Split(line, ":"))
		}
	}
	if err := scanner.Err(); err != nil {
		return fmt.Errorf("read %s of the image: %w", path, err)
	}
	return nil
}
