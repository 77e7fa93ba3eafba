package cas

// damagedSegments counts the live segments with shard files that no present directory holds.
func (s *Store) damagedSegments() (n int) {
	for _, info := range s.log.Segments() {
		if info.ShardsAbsent > 0 {
			n++
		}
	}
	return n
}
