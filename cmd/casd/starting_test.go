package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestStartingServerAnswersAndLetsGo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := startAnswering([]net.Listener{l}, nil)
	base := "http://" + l.Addr().String()
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/healthz":    {200, "ok"},
		"/readyz":     {503, "starting"},
		"/metrics":    {503, "<Code>ServiceUnavailable</Code>"},
		"/bucket/key": {503, "<Code>ServiceUnavailable</Code>"},
	} {
		resp, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != want.status || !strings.Contains(string(body), want.body) {
			t.Errorf("GET %s: %s, %q, %v, want %d with %q", path, resp.Status, body, err, want.status, want.body)
		}
		_ = resp.Body.Close() // read to its end
	}

	// Clients that go on asking never meet a closed port.
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var last sync.Map // client -> status of its last answer
	for i := range 4 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			for {
				resp, err := client.Get(base + "/readyz")
				if err != nil {
					t.Errorf("during the handover: %v", err)
					return
				}
				_ = resp.Body.Close() // only the status matters
				last.Store(i, resp.StatusCode)
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	if err := s.release(); err != nil {
		t.Fatal(err)
	}
	next := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { _ = next.Serve(l) }() // ends by Close
	defer next.Close()
	resp, err := http.Get(base + "/readyz")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("after the handover: %v, %v", resp, err)
	}
	_ = resp.Body.Close() // only the status matters
	close(stop)
	wg.Wait()
	last.Range(func(i, status any) bool {
		if status != http.StatusOK && status != http.StatusServiceUnavailable {
			t.Errorf("client %v: %v", i, status)
		}
		return true
	})
}

func TestStartingServerReleasesTwoListenersInTime(t *testing.T) {
	var listeners []net.Listener
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		listeners = append(listeners, l)
	}
	s := startAnswering(listeners, nil)
	// A connection on which nothing is asked must not hold the start up.
	idle, err := net.Dial("tcp", listeners[1].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	begun := time.Now()
	if err := s.release(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("release took %s", took)
	}
}
