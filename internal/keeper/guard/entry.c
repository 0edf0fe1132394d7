#define _GNU_SOURCE
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The first process of an ordinary container. It carries out a script that the keeper has written, one
 * instruction after the other, and becomes the container's program. It has one thread, allocates next to
 * nothing and needs no Go runtime. Whatever goes wrong ends it with a message: the keeper then starts the
 * container by libcontainer, which either can or says why not. */

enum { CONTROL = 3, GATE = 4 };

static const unsigned char *at, *end; /* what is left of the script */
static const char *rootfs;            /* where the root file system is mounted */
static int root = -1;                 /* and its descriptor */
static const char *doing = "start";

static void fail(int err)
{
	char message[PATH_MAX + 64];
	int32_t code = err ? err : EPROTO;
	int n = snprintf(message, sizeof(message), "%s: %s", doing, strerror(code));

	if (n >= (int)sizeof(message))
		n = sizeof(message) - 1;
	if (write(CONTROL, &code, sizeof(code)) == sizeof(code) && write(CONTROL, message, n) == n)
		_exit(1);
	_exit(2);
}

static void check(long result)
{
	if (result < 0)
		fail(errno);
}

static const unsigned char *take(size_t n)
{
	const unsigned char *piece = at;

	if ((size_t)(end - at) < n)
		fail(EPROTO);
	at += n;
	return piece;
}

static uint64_t number(void)
{
	uint64_t value;

	memcpy(&value, take(sizeof(value)), sizeof(value));
	return value;
}

/* A text ends with a zero in the script itself. */
static char *text(void)
{
	size_t n = number();
	char *s = (char *)take(n + 1);

	if (s[n] || strlen(s) != n)
		fail(EPROTO);
	return s;
}

static char **texts(void)
{
	size_t n = number();
	char **list = calloc(n + 1, sizeof(*list));

	if (!list)
		fail(ENOMEM);
	for (size_t i = 0; i < n; i++)
		list[i] = text();
	return list;
}

static char *descriptor_path(int fd)
{
	static char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return path;
}

/* in_root opens a path of the container; links in it lead to places in the container. */
static int in_root(const char *path, uint64_t flags, uint64_t resolve)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC | flags,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve,
	};
	int fd;

	do {
		fd = syscall(SYS_openat2, root, path, &how, sizeof(how));
	} while (fd < 0 && (errno == EAGAIN || errno == EINTR));
	return fd;
}

/* make_dirs opens a folder of the container and makes what of it is missing. */
static int make_dirs(const char *path, uint64_t resolve)
{
	char part[PATH_MAX];
	int fd = in_root(path, O_DIRECTORY, resolve), parent;
	const char *slash = path;

	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (strlen(path) >= sizeof(part)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	parent = in_root("/", O_DIRECTORY, resolve);
	while (parent >= 0 && *slash) {
		const char *name = slash + strspn(slash, "/");
		size_t n = strcspn(name, "/");

		if (!n)
			break;
		slash = name + n;
		memcpy(part, path, slash - path);
		part[slash - path] = 0;
		fd = in_root(part, O_DIRECTORY, resolve);
		if (fd < 0 && errno == ENOENT) {
			memcpy(part, name, n);
			part[n] = 0;
			if (mkdirat(parent, part, 0755) < 0 && errno != EEXIST)
				break;
			memcpy(part, path, slash - path);
			part[slash - path] = 0;
			fd = in_root(part, O_DIRECTORY, resolve);
		}
		close(parent);
		parent = fd;
	}
	return parent;
}

/* parent_of opens the folder that a path of the container lies in, and tells the last part of its name. */
static int parent_of(const char *path, const char **name)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');

	if (!slash || !slash[1] || (size_t)(slash - path) >= sizeof(dir))
		fail(EINVAL);
	memcpy(dir, path, slash - path + 1);
	dir[slash - path + 1] = 0;
	*name = slash + 1;
	return make_dirs(dir, 0);
}

/* Nothing may be mounted over the root itself, nor over a part of proc. */
static void check_place(int fd)
{
	char path[PATH_MAX];
	ssize_t n = readlink(descriptor_path(fd), path, sizeof(path) - 1);
	size_t prefix = strlen(rootfs);

	check(n);
	path[n] = 0;
	if (strncmp(path, rootfs, prefix) || path[prefix] != '/')
		fail(EXDEV);
	if (!strcmp(path + prefix, "/proc") || !strncmp(path + prefix, "/proc/", 6))
		fail(EACCES);
}

enum place { FOLDER = 'd', PLAIN_FOLDER = 'p', LIKE_SOURCE = 's' };

/* mount_point opens the place where something is to be mounted, and makes it if it is missing. */
static int mount_point(const char *path, const char *source, enum place place)
{
	struct stat st;
	const char *name;
	int fd, parent;

	if (place == PLAIN_FOLDER) /* proc and sysfs: no link on the way */
		return make_dirs(path, RESOLVE_NO_SYMLINKS);
	fd = in_root(path, 0, 0);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	if (place == LIKE_SOURCE) {
		check(stat(source, &st));
		if (!S_ISDIR(st.st_mode)) {
			parent = parent_of(path, &name);
			check(parent);
			fd = openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_RDONLY, 0644);
			close(parent);
			check(fd);
			close(fd);
			return in_root(path, 0, 0);
		}
	}
	return make_dirs(path, 0);
}

static void do_attach(void)
{
	enum place place = number();
	char *source = text(), *target = text(), *type = text();
	unsigned long flags = number();
	char *data = text();
	unsigned long remount = number();
	uint64_t spreads = number();
	int fd;

	doing = target;
	fd = mount_point(target, source, place);
	check(fd);
	if (place != PLAIN_FOLDER)
		check_place(fd);
	check(mount(source, descriptor_path(fd), type, flags, data));
	close(fd);
	fd = in_root(target, 0, 0); /* what lies on top there now */
	check(fd);
	while (spreads--)
		check(mount("", descriptor_path(fd), "", number(), ""));
	if (remount)
		check(mount("", descriptor_path(fd), "", remount, ""));
	close(fd);
}

static void do_device(void)
{
	char *path = text();
	mode_t mode = number();
	unsigned int major_number, minor_number;
	dev_t device;
	uid_t uid;
	gid_t gid;
	struct stat st;
	const char *name;
	int parent, fd;

	doing = path;
	major_number = number();
	minor_number = number();
	device = makedev(major_number, minor_number);
	uid = number();
	gid = number();
	parent = parent_of(path, &name);
	check(parent);
	if (mknodat(parent, name, mode, device) < 0) {
		if (errno != EEXIST)
			fail(errno);
		close(parent);
		return;
	}
	fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	check(fd);
	check(fstat(fd, &st));
	if ((st.st_mode & S_IFMT) != (mode & S_IFMT) || st.st_rdev != device)
		fail(EPROTO);
	check(chmod(descriptor_path(fd), mode & 07777));
	check(fchownat(fd, "", uid, gid, AT_EMPTY_PATH));
	close(fd);
	close(parent);
}

static void do_link(void)
{
	char *target = text(), *path = text();
	int replace = number();
	const char *name;
	int parent;

	doing = path;
	parent = parent_of(path, &name);
	check(parent);
	if (replace && unlinkat(parent, name, 0) < 0 && errno != ENOENT)
		fail(errno);
	if (symlinkat(target, parent, name) < 0 && (replace || errno != EEXIST))
		fail(errno);
	close(parent);
}

static int is_null(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

/* After it the container's root is the root, and nothing of the node is left. */
static void do_pivot(void)
{
	int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	doing = "root";
	check(old);
	check(fchdir(root));
	check(syscall(SYS_pivot_root, ".", "."));
	check(fchdir(old));
	check(mount("", ".", "", MS_SLAVE | MS_REC, ""));
	check(umount2(".", MNT_DETACH));
	check(chdir("/"));
	close(old);
	close(root);
}

/* Streams that are the node's /dev/null become the container's. */
static void do_null(void)
{
	struct stat st;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	doing = "/dev/null";
	check(null);
	check(fstat(null, &st));
	if (!is_null(&st))
		fail(EPROTO);
	for (int fd = 0; fd < 3; fd++) {
		check(fstat(fd, &st));
		if (is_null(&st))
			check(dup3(null, fd, 0));
	}
	close(null);
}

static void do_folder(void)
{
	char *path = text();

	doing = path;
	for (char *s = path + 1; *s; s++)
		if (*s == '/') {
			*s = 0;
			if (mkdir(path, 0755) < 0 && errno != EEXIST)
				fail(errno);
			*s = '/';
		}
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		fail(errno);
}

static void do_readonly(void)
{
	char *path = text();
	struct statfs st;

	doing = path;
	if (mount(path, path, "", MS_BIND | MS_REC, "") < 0) {
		if (errno == ENOENT)
			return;
		fail(errno);
	}
	check(statfs(path, &st));
	check(mount(path, path, "", (st.f_flags & (MS_NOSUID | MS_NODEV | MS_NOEXEC)) | MS_BIND | MS_REMOUNT | MS_RDONLY, ""));
}

/* Files are hidden by /dev/null, folders by one empty folder that can't be written. */
static void do_mask(void)
{
	static int shared = -1;
	char *path = text(), source[32];
	struct stat st;
	int fd, null;

	doing = path;
	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return;
	check(fd);
	check(fstat(fd, &st));
	if (!S_ISDIR(st.st_mode)) {
		null = open("/dev/null", O_PATH | O_CLOEXEC);
		check(null);
		check(fstat(null, &st));
		if (!is_null(&st))
			fail(EPROTO);
		snprintf(source, sizeof(source), "/proc/self/fd/%d", null);
		check(mount(source, descriptor_path(fd), "", MS_BIND, ""));
		close(null);
	} else if (shared < 0) {
		check(mount("tmpfs", path, "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1"));
		shared = open(path, O_PATH | O_CLOEXEC);
		check(shared);
	} else {
		snprintf(source, sizeof(source), "/proc/self/fd/%d", shared);
		check(mount(source, descriptor_path(fd), "", MS_BIND, ""));
	}
	close(fd);
}

/* The calls below concern this thread alone, as the guard keeps its privileges. */
static void do_credentials(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };
	uint64_t bounding = number(), effective = number(), permitted = number(), inheritable = number(), ambient = number();
	uid_t uid = number();
	gid_t gid = number();
	gid_t *groups;
	size_t n = number();
	char *cwd, where[PATH_MAX];
	struct stat st;
	int entered;

	doing = "credentials";
	groups = calloc(n + 1, sizeof(*groups));
	if (!groups)
		fail(ENOMEM);
	for (size_t i = 0; i < n; i++)
		groups[i] = number();
	cwd = text();
	entered = chdir(cwd) == 0;
	if (!entered && errno != EACCES && errno != EPERM)
		fail(errno);
	for (int c = 0; c < 64; c++)
		if (prctl(PR_CAPBSET_READ, c, 0, 0, 0) == 1 && !(bounding >> c & 1))
			check(prctl(PR_CAPBSET_DROP, c, 0, 0, 0));
	check(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
	for (int fd = 0; fd < 3; fd++) {
		check(fstat(fd, &st));
		if (st.st_uid != uid && !is_null(&st) && fchown(fd, uid, -1) < 0 && errno != EPERM && errno != EROFS)
			fail(errno);
	}
	check(syscall(SYS_setgroups, n, groups));
	check(syscall(SYS_setresgid, gid, gid, gid));
	check(syscall(SYS_setresuid, uid, uid, uid));
	if (!entered)
		check(chdir(cwd));
	/* A working directory outside the root would be a way out. */
	check(syscall(SYS_getcwd, where, sizeof(where)));
	if (where[0] != '/')
		fail(EXDEV);
	check(prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0));
	data[0].effective = effective;
	data[1].effective = effective >> 32;
	data[0].permitted = permitted;
	data[1].permitted = permitted >> 32;
	data[0].inheritable = inheritable;
	data[1].inheritable = inheritable >> 32;
	check(syscall(SYS_capset, &header, data));
	check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
	for (int c = 0; c < 64; c++)
		if (ambient >> c & 1)
			check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0));
}

static void do_overlay(void)
{
	char *base = text(), *options = text(), *plain = text();

	doing = "overlay";
	check(chdir(base));
	if (mount("overlay", rootfs, "overlay", 0, options) < 0 &&
	    (errno != EINVAL || mount("overlay", rootfs, "overlay", 0, plain) < 0))
		fail(errno);
	check(chdir("/"));
}

static void do_root(void)
{
	unsigned long spread = number(), parent = number();

	doing = rootfs;
	check(mount("", "/", "", spread, ""));
	check(mount("", rootfs, "", parent, ""));
	check(mount(rootfs, rootfs, "bind", MS_BIND | MS_REC, ""));
	root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);
	check(root);
}

static void do_seal(void)
{
	struct statfs st;

	doing = "read-only root";
	if (mount("", "/", "", MS_BIND | MS_REMOUNT | MS_RDONLY, "") == 0)
		return;
	check(statfs("/", &st));
	check(mount("", "/", "", MS_BIND | MS_REMOUNT | MS_RDONLY | st.f_flags, ""));
}

/* Control groups are opened while the node's root is there, and joined when the container's setup is
 * done: it would else be slowed down to what the container may have. */
static int groups[64], group_count;

static void do_group(void)
{
	char *path = text();

	doing = path;
	if (group_count == sizeof(groups) / sizeof(groups[0]))
		fail(E2BIG);
	groups[group_count] = open(path, O_WRONLY | O_CLOEXEC);
	check(groups[group_count++]);
}

static void do_join(void)
{
	doing = "control groups";
	while (group_count > 0) {
		if (write(groups[--group_count], "0", 1) != 1)
			fail(errno);
		close(groups[group_count]);
	}
}

static void do_namespace(void)
{
	char *path = text();
	int type = number(), fd;

	doing = path;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	check(fd);
	check(setns(fd, type));
	close(fd);
}

static void do_write(void)
{
	char *path = text(), *value = text();
	int fd;

	doing = path;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	check(fd);
	if (write(fd, value, strlen(value)) != (ssize_t)strlen(value))
		fail(errno);
	close(fd);
}

static void do_limit(void)
{
	int resource = number();
	struct rlimit limit;

	doing = "limits";
	limit.rlim_cur = number();
	limit.rlim_max = number();
	check(setrlimit(resource, &limit));
}

static void do_guard(void)
{
	unsigned int flags = number();
	size_t n = number();
	void *filter = malloc(n + 1);
	int err;

	doing = "guard";
	if (!filter)
		fail(ENOMEM);
	memcpy(filter, take(n), n);
	err = clipper_guard_start(CONTROL, filter, n / 8, flags);
	if (err)
		fail(err);
}

/* find_program looks for the program as a shell does; a name that shells treat otherwise is left to libcontainer. */
static char *find_program(char *name, char **env)
{
	static char found[PATH_MAX];
	const char *path = "";
	struct stat st;

	if (strchr(name, '/')) {
		check(stat(name, &st));
		if (S_ISDIR(st.st_mode))
			fail(EISDIR);
		check(faccessat(AT_FDCWD, name, X_OK, AT_EACCESS));
		return name;
	}
	for (; *env; env++)
		if (!strncmp(*env, "PATH=", 5))
			path = *env + 5;
	while (*path) {
		size_t n = strcspn(path, ":");

		if (path[0] != '/')
			fail(ENOENT);
		if (snprintf(found, sizeof(found), "%.*s/%s", (int)n, path, name) >= (int)sizeof(found))
			fail(ENAMETOOLONG);
		if (stat(found, &st) == 0 && !S_ISDIR(st.st_mode) && faccessat(AT_FDCWD, found, X_OK, AT_EACCESS) == 0)
			return found;
		path += n + (path[n] == ':');
	}
	fail(ENOENT);
	return NULL;
}

/* The last instruction: tell that everything is ready, wait for the word, become the program. */
static void do_execute(void)
{
	char **args = texts(), **env = texts(), *program;
	int32_t ready = 0;
	ssize_t n;
	char go;

	doing = "program";
	if (!args[0])
		fail(EINVAL);
	program = find_program(args[0], env);
	check(syscall(SYS_close_range, GATE + 1, ~0U, 0));
	if (write(CONTROL, &ready, sizeof(ready)) != sizeof(ready))
		_exit(2);
	do {
		n = read(GATE, &go, 1);
	} while (n < 0 && errno == EINTR);
	if (n != 1)
		_exit(2);
	execve(program, args, env);
	_exit(1);
}

static void run(void)
{
	static const struct {
		int op;
		void (*carry_out)(void);
	} instructions[] = {
		{ 'N', do_namespace }, { 'W', do_write }, { 'G', do_group }, { 'O', do_overlay }, { 'R', do_root },
		{ 'A', do_attach }, { 'D', do_device }, { 'L', do_link }, { 'P', do_pivot }, { '0', do_null },
		{ 'F', do_folder }, { 'S', do_seal }, { 'r', do_readonly }, { 'm', do_mask }, { 'J', do_join },
		{ 'l', do_limit }, { 'g', do_guard }, { 'C', do_credentials }, { 'X', do_execute },
	};

	for (;;) {
		int op = number();
		size_t i = 0;

		if (op == 'U') {
			doing = "namespaces";
			check(unshare(number()));
			continue;
		}
		if (op == 'q') {
			doing = "propagation";
			check(mount("", "/", "", number(), ""));
			continue;
		}
		if (op == 'p') {
			doing = "no new privileges";
			check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
			continue;
		}
		if (op == 'u') {
			umask(number());
			continue;
		}
		while (i < sizeof(instructions) / sizeof(instructions[0]) && instructions[i].op != op)
			i++;
		if (i == sizeof(instructions) / sizeof(instructions[0]))
			fail(ENOSYS);
		instructions[i].carry_out();
	}
}

static void read_script(void)
{
	uint32_t length;
	unsigned char *script;
	size_t have = 0;

	if (read(CONTROL, &length, sizeof(length)) != sizeof(length))
		_exit(2);
	script = malloc((size_t)length + 1);
	if (!script)
		fail(ENOMEM);
	while (have < length) {
		ssize_t n = read(CONTROL, script + have, length - have);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(2);
		have += n;
	}
	at = script;
	end = script + length;
}

/* Runs before Go's runtime would start, and never returns to it. */
__attribute__((constructor)) static void clipper_entry(void)
{
	if (!getenv("_CLIPPER_ENTRY"))
		return;
	prctl(PR_SET_NAME, "clipper-entry");
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (fcntl(CONTROL, F_SETFD, FD_CLOEXEC) < 0 || fcntl(GATE, F_SETFD, FD_CLOEXEC) < 0)
		_exit(2);
	read_script();
	rootfs = text();
	run();
}
