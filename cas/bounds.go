package cas

// Bounds. Sizes are bytes.
const (
	objectBytesMax = 5 << 40 // largest object, AWS's
	partBytesMax   = 5 << 30 // largest part or object put at once, AWS's
	partBytesMin   = 5 << 20 // smallest part that is not the last, AWS's
	partNumberMax  = 10_000

	inlineBytesMax  = 512      // objects up to this lie in their row
	smallBytesMax   = 64 << 10 // objects up to this are one chunk and go with the metadata
	chunkBytesLimit = 8 << 20  // largest plain chunk of any kind that is accepted when read

	partsInRowMax = 32 // longer part tables are a chunk of their own

	batchRequestsMax = 1024    // transactions in one commit
	batchBytesMax    = 4 << 20 // bytes of mutations after which a batch is closed
	queueMax         = 4096    // transactions that wait for the committer; more wait outside

	blockBytes      = 256 << 10 // unit in which a body is read
	uploadBlocks    = 8         // blocks of one upload in flight
	uploadChunks    = 4         // chunks of one upload in flight
	uploadMemory    = 8 << 20   // what a large upload is counted with in the global bound
	downloadChunks  = 16        // chunks of one download in flight
	downloadMemory  = 8 << 20   // what a large download is counted with
	memoryBytesMin  = 2 * max(uploadMemory, downloadMemory)
	manyParts       = 200      // completing more parts than this is counted as a large upload
	replayBytesMax  = 16 << 20 // bytes of mutations published at once in a replay
	cachedBytesMax  = 8 << 20  // objects up to this go through the chunk cache as a whole
	pendingDepsScan = 256      // how often an upload forgets dependencies that became durable
)
