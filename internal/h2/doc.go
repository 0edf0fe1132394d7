// Package h2 serves HTTP/2 over TLS to the handlers of net/http, at less cost for each request than the server that comes with it.
//
//	server := &http.Server{Handler: handler, TLSConfig: config}
//	new(h2.Server).Configure(server)
//	server.ServeTLS(h2.Listen(listener), "", "")
//
// What flows in are connections on which TLS agreed on "h2"; what flows out are calls of the handler, one goroutine for each
// stream. Frames are read and header blocks decoded by golang.org/x/net/http2 and hpack.
//
// Two things make it cheap. A handler's goroutine writes its own frames, so that a response passes through no other one: a small
// response is one TLS record and one system call, a large one goes out in blocks of several records. And frames that come from
// several streams at about the same time leave together: whoever finds nobody writing writes what all have put down (as
// databases commit in groups), so that a change that a thousand watchers wait for costs a few system calls and not a thousand. Where
// handlers wait for such changes, Gather and Offer, methods of the http.ResponseWriter, spare waking each of them.
//
// Upgrades, pushes and priorities are not served. A connection's memory is bounded by its streams, their headers, their windows
// and one buffer of outgoing frames. Clients that read too slowly, don't read the answers to their control frames, or open and
// reset streams faster than handlers end lose the connection; a response for which no window is opened loses its stream.
package h2
