// Nginx stands in for the web server of that name in the images of critest: it says "nginx" on a port,
// and leaves its process ID where that one does.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "80"
	}
	if err := os.WriteFile("/var/run/nginx.pid", []byte(fmt.Sprintln(os.Getpid())), 0o644); err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "<html><title>Welcome to nginx!</title></html>")
		fmt.Printf("%s - - \"%s %s %s\" 200\n", r.RemoteAddr, r.Method, r.URL, r.Proto)
	})
	log.Fatal(http.ListenAndServe(":"+port, nil))
}
