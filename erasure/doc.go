/*
Package erasure keeps an append-only, erasure-coded log of records over data directories. It knows nothing of what the
records mean.

A record has a kind, a label and a body. Records are gathered into stripes. A stripe is cut into k data shards, m parity
shards are computed from these with Reed-Solomon, and each of the n = k+m shards is appended to a file of its own, in a
directory of its own. A run of stripes in one set of n files is a segment. Any k of the n files give everything back.

# Directories

	DIR/format.json                     who the directory is; see below
	DIR/lock                            locked with flock while the store is open; holds "pid P on HOST"
	DIR/segments/SSSSSSSSSSSSSSSS.C.NN  shard NN (two decimal digits, from 00) of segment S (16 hex digits); C is m (metadata), d (data) or s (snapshot)

	DIR/probe.tmp         written, read back and removed before a directory that was away is used again
	DIR/segments/*.tmp                  a shard file that is being rebuilt or moved, or was when the process died; the next start removes it

Where a shard lies is said by the names and by nothing else, and who it is by its headers. format.json is a JSON document:

	format    "casd"
	version   1
	store     32 hex digits, random
	dir       32 hex digits, random
	k, m      the code that the store was created with
	code      {"k", "m"} of new segments; only when it is not the one above any more
	parity    smallest parity of any live segment; left out when it is not less than m of the code of new segments
	csn       revision of code, parity, lost and members: above every earlier one and the last CSN then; 0 is creation
	lost      members that were declared lost and whose shards are not all rebuilt; 0 is left out
	members   [{"id": dir, "path": where it was last, "state", "joined"}]; the copy with the highest csn wins and is given to the others. state is
	          left out, or draining; healing: took the place of another one, and may lack shard files; joining: not in use yet. joined is
	          true of one that came later: a start uses it at path when it is not given, unless others are not where they were last
	created   RFC 3339
	params    creation options of the layers above; opaque
	checksum  XXH3-64 of the document with an empty checksum and without white space, 16 hex digits

# Shard files

A shard file is a run of shards, each of which begins on a multiple of 4096 bytes (a block), so that a torn write never
touches the shard before it. Shards of one stripe have equal length, so a stripe lies at the same offset in all n files.
Behind the last shard comes what was preallocated, or, when the segment is sealed, the footer and the end of the file.
Integers are little endian.

	offset  size  shard
	0       256   header
	256     s     shard data
	256+s   p     zeros up to the next block

	offset  size  header
	0       8     magic "casdshrd"
	8       2     format version, 1
	10      2     header length, 256
	12      1     class: 1 metadata, 2 data, 3 snapshot
	13      1     k
	14      1     m
	15      1     shard index; 0 to k-1 are data
	16      16    store ID
	32      8     segment ID
	40      16    nonce: random, the same in all shards of the segment
	56      4     flags: 1 directory stripe
	60      4     stripe number in the segment, from 0
	64      8     stripe sequence
	72      4     payload length
	76      4     record table length; 0 in a directory stripe
	80      4     records in the stripe; in a directory stripe, its entries
	84      4     ordinal of the first record; 0 in a directory stripe
	88      4     shard data length: payload length / k, rounded up, then up to a multiple of 64
	92      4     zero
	96      16    XXH3-128 of the shard data (big endian, as is the canonical form)
	112     16    digest of the stripe: XXH3-128 over the checksums of its k data shards
	128     16    digest of the stripe before it; zero in stripe 0
	144     8     synced mark: segment ID of the metadata segment that was open when this was written; 0 none
	152     8     the same for the data segment
	160     4     how many stripes of that metadata segment were durable
	164     4     the same for that data segment
	168     16    writer ID: random for each time that the log was opened
	184     8     XXH3-64 of the record table
	192     56    zero
	248     8     XXH3-64 of bytes 0 to 247

All headers of a stripe are equal but for shard index, shard checksum and header checksum. The parity matrix is that of
reedsolomon.New(k, m): a Vandermonde matrix over GF(2^8) with polynomial 29, made systematic. Shards that are equal but for
their place in the payload hold the payload cut into k pieces, the last ones filled up with zeros.

	payload of a stripe
	for each record, its entry in the record table:
	  1     kind, not 0
	  1     label length
	  l     label
	  4     body length
	for each record, its frame:
	  4     body length
	  4     ordinal in the segment
	  8     XXH3-64 of the body, seeded with the XXH3-64 of segment ID (8) and ordinal (4)
	  b     body

The record table thus lists what is in a stripe without the bodies, and a frame that is read by its location verifies
itself: neither a rotten nor a misdirected read passes.

The stripe sequence orders the stripes of all segments of the store in time. It rises by one with each stripe; there are
gaps where stripes were void, and at each start. The stripes of a snapshot take none: all of them have the last sequence that was
given when the snapshot was begun.

# Sealed segments

Sealing appends directory stripes and a footer. The payload of the directory stripes is a run of entries, one for each
stripe of the segment in order; an entry is not cut. Directory stripes take no sequence: theirs is that of the last stripe.

	offset  size  directory entry
	0       4     stripe number
	4       4     block at which it begins
	8       8     stripe sequence
	16      4     payload length
	20      4     shard data length
	24      4     ordinal of the first record
	28      4     records
	32      4     record table length
	36      4     zero
	40      8     XXH3-64 of the record table
	48      16    digest of the stripe
	64      t     record table

	offset  size  footer, the last 4096 bytes of the file
	0       8     magic "casdseal"
	8       2     format version, 1
	10      2     192
	12      4     class, k, m, shard index
	16      16    store ID
	32      8     segment ID
	40      16    nonce
	56      4     stripes, directory stripes not counted
	60      4     records
	64      8     sum of the payload lengths, directory stripes not counted
	72      8     length of this file
	80      8     sequence of the first stripe
	88      8     sequence of the last stripe
	96      16    digest of the last stripe
	112     4     block at which the first directory stripe begins
	116     4     directory stripes
	120     16    digest of the last directory stripe
	136     48    zero
	184     8     XXH3-64 of bytes 0 to 183
	192     3904  zero

Everything before the footer is durable in all files before the footer is written, and the files are cut to length only when
all of them have it. So a footer at the end of one file proves that the whole segment was durable.

# Recovery

A stripe is committed when k valid shards of it agree and every earlier stripe of its segment is committed. A shard is valid
when its header and its data match their checksums and store, segment and nonce are right; shards agree when their headers
do. A stripe that a synced mark vouches for is never given up: when fewer than k shards are valid, that is corruption,
reported and left alone, and the search goes on behind it. The first stripe past every mark with fewer than k valid shards
was torn. There the segment ends, by a verdict, for ever: it is never appended to, cut or overwritten, except that bad
shards of committed stripes are rewritten with what they should hold.

A verdict (segment, number of stripes, digest of the last one) is committed as a record by the layer above. A segment that
fails while it is open also ends by a verdict, at its last durable stripe; what came after is appended again to a new
segment on the directories that are left, with the same m and a smaller k.

# Dropping

A segment leaves the live set in memory first (Retire). Then a record, made durable by the layer above, says that it was dropped, and its
files are removed (Drop). From that record on its number is void: whichever directory brings files of it, now or later, they are never
read, and are removed when a start has recovered. A drop in a stripe that a verdict voids, or in a segment that was dropped itself, does
not count. Drops must be told at each start (SetDropped), or the list of what was live below some number (Live, SetLive): what is not in
it is void. Numbers are not used again.

# Snapshots

A snapshot is a segment that is written in one go, beside the others, and sealed. It counts when one of its files has a footer; what is
left of one that has none is void, needs no verdict, and is removed when a start has recovered. Snapshots are not replayed.

# Scrub and heal

A scrub reads every shard of every committed stripe past the page cache. A shard is right when it is valid, its header has what the
directory, or the header chain, of the segment says of the stripe, and its data is what the k data shards with the stripe's digest
encode to: that also shows a shard which verifies by itself but was made from something else. Repair writes back exactly the bytes
that were lost: header and data of the stripe, the footer, the length of the file. Of a file that is missing the new one is named
only when all of it is synced and was read back; while a directory is away, a file in which a stripe would be missing gets no
name, because the true one may come back. So a power loss in the middle leaves nothing that was not there or is not right.

# Moves

A move writes a shard file anew in another directory, from the old file, or, where that is not right, from the other shards. It is
synced, read back and named before the old file goes, so a power loss leaves one of them, or both. Two copies of one shard file are
interchangeable stripe by stripe: one goes only when every stripe of the other was synced, read past the page cache and found right,
or made right from the first. Until then the second is not read, but no stripe that it may have is called lost.

# Bounds

n is at most 16, a body 16 MiB, a label 255 bytes, a payload 256 MiB. In memory are at most UnsyncedBytes of bulk records,
16 MiB of floating ones, for each snapshot
that is being written three stripes, two of them with parity, and its record tables, for each running scrub or move one stripe with its parity and payload and one directory stripe, four encoded bulk stripes with their parity, the record tables of the open segments, and 512 open
files for reading.
*/
package erasure
