/*
Package index is the view of the log: the catalog, ordered tables of metadata, and the chunk map, from
chunk ID to location. It knows nothing of directories or protocols, nor what a value means.

Everything in it can be derived from the log again, so it never syncs for a commit. Changes go into an
overlay in memory, which readers see at once. Every now and then the overlay is frozen and written into a
bbolt file, the catalog in one transaction together with the position of the log that the file covers then (a checkpoint). After a
crash the caller applies what the log has past Position; rows of the chunk map may be newer, which does no harm. When the file is damaged, every reader that meets
the damage gets an error matching ErrCorrupt; the caller deletes the file (Remove) and rebuilds it.

# Consistency

The catalog has one writer, the committer. It prepares a Stage, and Publish makes all of it visible at once.
A View is one such state, for ever: an immutable snapshot of the active overlay, at most one frozen overlay, and
a read transaction of bbolt, all of one generation. The chunk map has no views: LookupChunk and PutChunks are single steps.

# File format, version 1

A bbolt file (format version 2 of bbolt). Integers in rows are little endian unless they are part of a key.
The root holds one bucket per table, named by the table's number in one byte, and the bucket "casd" with these keys:

	"format"      u32 version of this format, 1
	"checkpoint"  what the file covers:

	offset  size  field
	0       8     CSN of the last mutation that is in the file
	8       8     rows of the chunk map
	16      8     sum of their sizes in bytes
	24      2     number of tables T
	26      25*T  for each table in ascending order: u8 table, u64 rows, u64 low half and u64 high half of its set hash
	...     4     length of the log position
	...     -     the log position, opaque
	...     8     checksum: XXH3-64 of all before

A row of the catalog:

	0       8     revision: CSN of the mutation that wrote it
	8       8     checksum: low half of the row hash
	16      -     value

A row of the chunk map (table 64), whose key is the chunk ID:

	0       8     checksum: low half of the row hash, with revision 0 and the bytes that follow as the value
	8       28    location, opaque
	36      4     size in plain bytes
	40      1     encoding, opaque

The row hash is XXH3-128 of

	u8 table, u32 length of the key, the key, u64 revision, the value

The set hash of a table is the sum of the row hashes of its rows, modulo 2^128. Checksums catch rows that
changed; counts and set hashes catch rows that went missing or came back: bbolt does not checksum its pages, and one flipped
bit in a branch page makes a scan skip entries, or a look-up miss one, silently. Verify compares them, and
proves the pages.

Beside the file lies, after a clean shutdown only, a file of the same name with the suffix ".clean":

	0       8     magic "casdclean" cut to 8 bytes: "casdclea"
	8       8     bbolt transaction number
	16      8     size of the bbolt file in bytes
	24      8     XXH3-64 of the free list pages
	32      8     checksum: XXH3-64 of all before

When it matches the bbolt file, its free list can be trusted and the file is opened as it is. In every other case all of the file
is read and proven first: the page tree, every row, counts, set hashes and, if there is one, the free list. That
costs one pass over the file, which bbolt would have made as well, to find its free pages, but in a goroutine whose panic on a
damaged page nobody could recover.

# Keys

See ObjectKey, UploadKey and PartKey.
*/
package index
