package record

// A 32-bit build is refused here: the table builder of the storage engine
// shifts an int by 32 when it addresses its buffers, which is zero on such a
// machine, and records are then overwritten without an error. On a 32-bit
// target this array has a negative length and the build stops.
type thisProgramNeeds64Bit [int(^uint(0)>>63) - 1]struct{}

var _ thisProgramNeeds64Bit
