package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A startingServer answers on listeners while the store is being opened, which may take a while after a crash: /healthz is
// 200, everything else 503 with Retry-After, so that clients wait instead of failing. Then it lets go of the listeners,
// which stay open; a connection that arrives in between waits in the backlog.
type startingServer struct {
	servers []*http.Server
	leases  []*leasedListener
	done    chan struct{}  // one value a server that accepts no more
	conns   sync.WaitGroup // open connections
}

func startAnswering(listeners []net.Listener, conf *tls.Config) *startingServer {
	s := &startingServer{done: make(chan struct{}, len(listeners))}
	for _, l := range listeners {
		lease := &leasedListener{Listener: l}
		var plain net.Listener = lease
		if conf != nil {
			plain = tls.NewListener(lease, conf)
		}
		server := &http.Server{Handler: http.HandlerFunc(answerStarting), ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, ConnState: s.count,
			ErrorLog: log.New(io.Discard, "", 0)} // clients cause what it would hold
		server.SetKeepAlivesEnabled(false)
		s.servers = append(s.servers, server)
		s.leases = append(s.leases, lease)
		go func() {
			_ = server.Serve(plain) // ends only by release
			s.done <- struct{}{}
		}()
	}
	return s
}

func (s *startingServer) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed:
		s.conns.Done()
	}
}

// releaseTimeout is short, since a client that connected and asks nothing would delay the start.
const releaseTimeout = 500 * time.Millisecond

// release returns when no listener is read any more and every connection was answered, for which it waits at most
// releaseTimeout. (http.Server.Shutdown would hang up on requests that it has just read.)
func (s *startingServer) release() error {
	for _, lease := range s.leases {
		if err := lease.Close(); err != nil {
			return err
		}
	}
	for range s.servers {
		<-s.done
	}
	answered := make(chan struct{})
	go func() {
		s.conns.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(releaseTimeout):
	}
	for _, server := range s.servers {
		_ = server.Close() // the connections that did not end in time
	}
	for _, lease := range s.leases {
		if err := lease.giveBack(); err != nil {
			return err
		}
	}
	return nil
}

const startingXML = `<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>ServiceUnavailable</Code><Message>The store is being opened. Please try again.</Message></Error>`

func answerStarting(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintln(w, `{"status":"ok"}`)
	case "/readyz":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, `{"status":"starting","reasons":["the store is being opened"]}`)
	default:
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		if r.Method != http.MethodHead {
			fmt.Fprint(w, startingXML)
		}
	}
}

// A leasedListener stops accepting when it is closed but leaves the listener that it wraps open.
type leasedListener struct {
	net.Listener
	closed atomic.Bool
}

type deadliner interface{ SetDeadline(time.Time) error }

func (l *leasedListener) Accept() (net.Conn, error) {
	if l.closed.Load() {
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil && l.closed.Load() {
		return nil, net.ErrClosed
	}
	return c, err
}

// Close wakes Accept by a deadline in the past.
func (l *leasedListener) Close() error {
	if l.closed.Swap(true) {
		return nil
	}
	d, ok := l.Listener.(deadliner)
	if !ok {
		return errors.New("listener has no deadline")
	}
	return d.SetDeadline(time.Unix(1, 0))
}

func (l *leasedListener) giveBack() error { return l.Listener.(deadliner).SetDeadline(time.Time{}) }
