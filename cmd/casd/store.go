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
}

// addFlags adds what every command needs that opens a store.
func (o *storeOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.index, "index", "", "`DIR` of the index; default inside the first healthy data directory")
	f.BoolVar(&o.allowNetworkFS, "allow-network-fs", false, "accept data directories on NFS, SMB, FUSE and 9p, or without locks")
}

// addServeFlags adds what matters only while serving.
func (o *storeOptions) addServeFlags(f *pflag.FlagSet) {
	o.segmentBytes, o.cacheBytes, o.memoryBytes = 1<<30, 128<<20, 1<<30
	f.Var(&o.ec, "ec", "erasure code of a new store, as 4+2; default by the number of directories")
	f.Var(&o.segmentBytes, "segment-bytes", "payload at which a data segment is sealed")
	f.Var(&o.cacheBytes, "cache-bytes", "chunk cache")
	f.Var(&o.memoryBytes, "memory-bytes", "buffers of all uploads and downloads together")
	f.DurationVar(&o.checkpointInterval, "checkpoint-interval", 5*time.Second, "time between checkpoints of the index")
	f.DurationVar(&o.ioTimeout, "io-timeout", 30*time.Second, "a directory that hangs longer in one write or fsync is taken offline")
}

func (o *storeOptions) casOptions() cas.Options {
	return cas.Options{
		Dirs: o.dirs, IndexDir: o.index, K: o.ec.k, M: o.ec.m, AllowNetworkFS: o.allowNetworkFS,
		SegmentBytes: int64(o.segmentBytes), CacheBytes: int64(o.cacheBytes), MemoryBytes: int64(o.memoryBytes),
		CheckpointInterval: o.checkpointInterval, IOTimeout: o.ioTimeout,
	}
}
