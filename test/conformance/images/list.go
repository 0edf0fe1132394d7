package main

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// image describes one image.
type image struct {
	names  []string
	onBase bool // it lies on the Debian root file system
	files  []file
	config v1.Config
}

// file is one entry of an image's own layer. Exactly one of from, program, link and text says what it is; none is a folder.
type file struct {
	path    string
	from    string // a file or folder of a module: "k8s.io/kubernetes/test/images/agnhost/porter/localhost.crt"
	program string // a Go package to compile
	link    string // the target of a symbolic link
	text    string
	mode    int64
}

const (
	e2e    = "registry.k8s.io/e2e-test-images/"
	source = "k8s.io/kubernetes/test/images/"
)

func images() []image {
	agnhost := []file{
		{path: "agnhost", program: source + "agnhost", mode: 0o755},
		{path: "agnhost-2", link: "agnhost"},
		{path: "localhost.crt", from: source + "agnhost/porter/localhost.crt", mode: 0o644},
		{path: "localhost.key", from: source + "agnhost/porter/localhost.key", mode: 0o644},
		{path: "uploads", mode: 0o755},
		{path: "usr/local/bin/iperf", link: "/usr/bin/iperf"},
		{path: "usr/local/bin/nmeter", program: "clipper.dev/clipper/test/conformance/nmeter", mode: 0o755},
		{path: "etc/passwd", text: passwd, mode: 0o644},
		{path: "etc/group", text: group, mode: 0o644},
		// A spec recognizes what it mounted by this file of upstream's base image.
		{path: "etc/os-release", text: "NAME=\"Alpine Linux\"\nID=alpine\nPRETTY_NAME=\"Alpine Linux, as a Debian root file system stands in for it\"\n", mode: 0o644},
	}
	agnhostConfig := v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}}
	site := func(name string) image {
		return image{
			names: []string{e2e + name + ":1.8"}, onBase: true,
			files: append(agnhost[:len(agnhost):len(agnhost)],
				file{path: name + ".jpg", from: source + name + "/html/" + name + ".jpg", mode: 0o644},
				file{path: "data.json", from: source + name + "/html/data.json", mode: 0o644}),
			config: v1.Config{Entrypoint: []string{"/agnhost"}, Cmd: []string{"test-webserver"}},
		}
	}
	return []image{
		{names: []string{"registry.k8s.io/pause:3.10.2"}, files: []file{{path: "pause", program: "clipper.dev/clipper/test/conformance/pause", mode: 0o755}},
			config: v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"}},
		{names: []string{e2e + "agnhost:2.63.0", e2e + "agnhost:2.55"}, onBase: true, files: agnhost, config: agnhostConfig},
		site("kitten"), site("nautilus"),
		{names: []string{e2e + "busybox:1.37.0-1"}, files: busybox(), config: v1.Config{Cmd: []string{"sh"}}},
		{names: []string{e2e + "glibc-dns-testing:2.0.0"}, onBase: true, config: v1.Config{Cmd: []string{"bash"}}},
		{names: []string{e2e + "ipc-utils:1.4"}, onBase: true, config: v1.Config{Cmd: []string{"sh"}}},
		{names: []string{e2e + "perl:5.26"}, onBase: true, config: v1.Config{Cmd: []string{"perl", "-de0"}}},
		{names: []string{e2e + "nginx:1.15-4"}, onBase: true, files: nginx("1.15"), config: nginxConfig},
		{names: []string{e2e + "nginx:1.27-0"}, onBase: true, files: nginx("1.27"), config: nginxConfig},
		{names: []string{e2e + "nonewprivs:1.4"}, onBase: true, files: []file{{path: "usr/local/bin/nnp", program: source + "nonewprivs", mode: 0o6755}},
			config: v1.Config{Cmd: []string{"nnp"}}},
		{names: []string{e2e + "nonroot:1.5"}, onBase: true, config: v1.Config{User: "1234", Cmd: []string{"bash"}}},
		{names: []string{e2e + "regression-issue-74839:1.4"}, files: []file{{path: "regression-issue-74839", program: source + "regression-issue-74839", mode: 0o755}},
			config: v1.Config{Entrypoint: []string{"/regression-issue-74839"}}},
		{names: []string{e2e + "resource-consumer:1.14"}, onBase: true, files: []file{
			{path: "consumer", program: source + "resource-consumer", mode: 0o755},
			{path: "consume-cpu/consume-cpu", program: source + "resource-consumer/consume-cpu", mode: 0o755},
		}, config: v1.Config{Entrypoint: []string{"/consumer"}}},
		{names: []string{e2e + "sample-device-plugin:1.7"}, onBase: true, files: []file{{path: "sampledeviceplugin", program: source + "sample-device-plugin", mode: 0o755}},
			config: v1.Config{Entrypoint: []string{"/sampledeviceplugin", "-alsologtostderr"}}},
		{names: []string{e2e + "sample-apiserver:1.29.2"}, onBase: true, files: []file{{path: "sample-apiserver", program: "k8s.io/sample-apiserver", mode: 0o755}},
			config: v1.Config{Entrypoint: []string{"/sample-apiserver"}}},
		{names: []string{"registry.k8s.io/sig-storage/hostpathplugin:v1.17.1"}, onBase: true,
			files:  []file{{path: "hostpathplugin", program: "clipper.dev/clipper/test/conformance/hostpathplugin", mode: 0o755}},
			config: v1.Config{Entrypoint: []string{"/hostpathplugin"}}},
		{names: []string{"registry.k8s.io/etcd:3.6.8-0"}, files: []file{{path: "usr/local/bin/etcd", program: "go.etcd.io/etcd/server/v3", mode: 0o755}},
			config: v1.Config{Env: []string{"PATH=/usr/local/bin"}}},
	}
}

var nginxConfig = v1.Config{Cmd: []string{"nginx", "-g", "daemon off;"}, StopSignal: "SIGQUIT"}

// nginx serves where upstream's image does.
func nginx(version string) []file {
	return []file{
		{path: "etc/nginx/nginx.conf", mode: 0o644, text: `user www-data;
worker_processes auto;
error_log /dev/stderr notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  access_log /dev/stdout;
  server {
    listen 80;
    listen [::]:80;
    location / { root /usr/share/nginx/html; index index.html; }
  }
}
`},
		{path: "usr/share/nginx/html/index.html", mode: 0o644, text: "<!DOCTYPE html><html><head><title>Welcome to nginx!</title></head><body><h1>Welcome to nginx!</h1>" + version + "</body></html>\n"},
	}
}

const passwd = `root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
www-data:x:33:33:www-data:/var/www:/usr/sbin/nologin
user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`

const group = `root:x:0:
daemon:x:1:
www-data:x:33:
user-defined-in-image:x:1000:
group-defined-in-image:x:50000:user-defined-in-image
nogroup:x:65534:
`

// busybox is an image of its own, with every applet as a link.
func busybox() []file {
	files := []file{
		{path: "bin/busybox", from: "rootfs:/usr/bin/busybox", mode: 0o755},
		{path: "bin/sh", program: "clipper.dev/clipper/test/conformance/sh", mode: 0o755},
		{path: "bin/nmeter", program: "clipper.dev/clipper/test/conformance/nmeter", mode: 0o755},
		{path: "dev", mode: 0o755}, {path: "proc", mode: 0o755}, {path: "sys", mode: 0o755}, {path: "tmp", mode: 0o1777}, {path: "root", mode: 0o700},
		{path: "var/spool/mail", mode: 0o755}, {path: "home", mode: 0o755}, {path: "usr/bin", mode: 0o755},
		{path: "etc/passwd", mode: 0o644, text: "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"},
		{path: "etc/group", mode: 0o644, text: "root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n"},
	}
	return files
}
