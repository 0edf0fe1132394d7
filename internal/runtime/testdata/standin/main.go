// Standin takes the place of the programs in critest's images that busybox does not have. It goes by
// the name that it is called by.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	switch filepath.Base(os.Args[0]) {
	case "nginx", "httpd":
		serve()
	case "nonewprivs": // is setuid root in its image
		fmt.Printf("Effective uid: %d\n", os.Geteuid())
	case "ipcs":
		show("/proc/sysvipc/shm")
	case "pgrep":
		find(os.Args[1])
	}
}

// serve says "nginx" on a port, and leaves its process ID where nginx does.
func serve() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "80"
	}
	if err := os.WriteFile("/var/run/nginx.pid", []byte(fmt.Sprintln(os.Getpid())), 0o644); err != nil {
		log.Fatal(err)
	}
	fmt.Println("Apache/2.4.39 httpd stand-in")
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "<html><title>Welcome to nginx!</title></html>")
		fmt.Printf("%s - - \"%s %s %s\" 200\n", r.RemoteAddr, r.Method, r.URL, r.Proto)
	})
	log.Fatal(http.ListenAndServe(":"+port, nil))
}

func show(path string) {
	file, err := os.Open(path)
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	_, _ = io.Copy(os.Stdout, file)
}

func find(name string) {
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	code := 1
	for _, path := range comms {
		if comm, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(comm)) == name {
			fmt.Println(filepath.Base(filepath.Dir(path)))
			code = 0
		}
	}
	os.Exit(code)
}
