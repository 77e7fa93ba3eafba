package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/casd/casd/cas"
)

// storeOptions are the settings of commands that open a store.
type storeOptions struct {
	dirs                                  []string
	index                                 string
	ec                                    ecValue
	allowNetworkFS                        bool
	segmentBytes, cacheBytes, memoryBytes sizeValue
	checkpointInterval, ioTimeout         time.Duration

	// Work in the background, only while serving.
	scrubInterval, gcInterval time.Duration
	scrubRate, gcRate         sizeValue
	gcThreshold               float64
}

// addFlags adds what every command needs that opens a store.
func (o *storeOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.index, "index", "", "`DIR` of the index; default inside the first healthy data directory")
	f.BoolVar(&o.allowNetworkFS, "allow-network-fs", false, "accept data directories on NFS, SMB, FUSE and 9p, or without locks")
}

// addServeFlags adds what matters only while serving.
func (o *storeOptions) addServeFlags(f *pflag.FlagSet) {
	o.segmentBytes, o.cacheBytes, o.memoryBytes = 1<<30, 128<<20, 1<<30
	f.Var(&o.ec, "ec", "erasure code of a new store, or of new segments, as 4+2; default the store's, or by the number of directories")
	f.Var(&o.segmentBytes, "segment-bytes", "payload at which a data segment is sealed")
	f.Var(&o.cacheBytes, "cache-bytes", "chunk cache")
	f.Var(&o.memoryBytes, "memory-bytes", "buffers of all uploads and downloads together")
	f.DurationVar(&o.checkpointInterval, "checkpoint-interval", 5*time.Second, "time between checkpoints of the index")
	f.DurationVar(&o.ioTimeout, "io-timeout", 30*time.Second, "a directory that hangs longer in one write or fsync is taken offline")
	o.scrubRate, o.gcRate = 100<<20, 100<<20
	f.DurationVar(&o.scrubInterval, "scrub-interval", 30*24*time.Hour, "time from one full scrub to the next; 0 means never")
	f.Var(&o.scrubRate, "scrub-rate", "bytes a second that a background scrub reads over all directories; 0 means no limit")
	f.DurationVar(&o.gcInterval, "gc-interval", time.Hour, "how often to look whether there is enough garbage for a cycle of gc; 0 means never")
	f.Float64Var(&o.gcThreshold, "gc-threshold", 0.25, "`PART` of garbage in a segment from which a background gc compacts it, 0 < PART <= 1")
	f.Var(&o.gcRate, "gc-rate", "bytes a second that a background gc copies; 0 means no limit")
}

func (o *storeOptions) casOptions() cas.Options {
	return cas.Options{
		Dirs: o.dirs, IndexDir: o.index, K: o.ec.k, M: o.ec.m, AllowNetworkFS: o.allowNetworkFS,
		SegmentBytes: int64(o.segmentBytes), CacheBytes: int64(o.cacheBytes), MemoryBytes: int64(o.memoryBytes),
		CheckpointInterval: o.checkpointInterval, IOTimeout: o.ioTimeout,
		ScrubInterval: o.scrubInterval, ScrubRate: int64(o.scrubRate), GCInterval: o.gcInterval, GCThreshold: o.gcThreshold, GCRate: int64(o.gcRate),
	}
}
