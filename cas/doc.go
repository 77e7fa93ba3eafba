/*
Package cas is the store: it keeps objects in an append-only log and finds them through an index of it. It is the only
package that knows both.

# Words

	chunk       a content-defined piece of an object; its ID is the keyed BLAKE3-256 of its plain bytes
	domain      the scope in which equal bytes are stored once; it owns the BLAKE3 key
	manifest    the tree of chunk references that make an object or a part; its nodes are list chunks
	record      one framed entry of the log: a chunk, a list chunk, or a mutation of the catalog
	CSN         commit sequence number: the order of mutations, dense
	committer   the one goroutine that decides, orders, writes and publishes transactions
	catalog     the ordered tables of the index: buckets, objects, uploads, ...
	chunk map   where each chunk lies in the log
	overlay     the part of the index that is not in its file yet
	checkpoint  the overlay written into the file, with the log position that it covers
	verdict     the final word on where a segment of the log ends

# How an object comes in

A body is read once, by two goroutines at once: one computes what the protocol wants, the other splits (ingest.go). A chunk
is looked up and claimed in one step (pending.go), so that whoever is first appends it and everyone else waits for the same
append. When the digests agree, a transaction is prepared: what was read of the catalog and what is to be written (tx.go). The
committer validates it against the state that it will meet, prepares it again when that has changed, gives it a CSN, and makes the batch durable
together with the chunks that it names (committer.go). Only then does anyone see it.

# Versions

A version of a key is a row; its ID is made of the CSN that wrote it (version.go). Buckets say whether writes add versions or replace
the null one (object.go, delete.go). A delete marker is a row without content. The counters of a bucket count keys whose newest version is no
marker as objects, and the bytes of all versions.

# What is on disk

Records: record.go. Rows: row.go. Version IDs: version.go. Manifest nodes: manifest.go. Frames, stripes and shards: package erasure.
Golden files of each are in testdata.
*/
package cas
