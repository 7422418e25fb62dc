#include "ops/attention_work.h"

#include <algorithm>

#include "ops/attention_rows.h"

namespace redoubt {
namespace {

// Partial results held at once when splits are spread over threads: enough to keep them all busy.
int64_t num_slots(int threads) { return std::max<int64_t>(32, 8 * threads); }

struct Run {
  OpContext& ctx;
  const AttentionWork& work;
  const AttentionKernels& kernels;
  const KeySource& keys;
  const AttentionUnits& units;
  int64_t words;
  Tensor queries, rows, valid, panels;  // one row a thread

  int64_t splits(const AttentionUnit& unit) const {
    return work.split_keys == 0 ? 1 : (unit.keys(work) + work.split_keys - 1) / work.split_keys;
  }
  SoftmaxState state(float* memory) const { return {memory, units.max_rows(), work.value}; }
  uint32_t* packed(int thread) const { return reinterpret_cast<uint32_t*>(queries.row(thread)); }

  void pack(const AttentionUnit& unit, int thread) const {
    pack_queries(ctx.kernels, kernels, work, unit, rows.row(thread), packed(thread));
  }
  void fold_split(const AttentionUnit& unit, int64_t split, const SoftmaxState& state, int thread) const;
  // One group of rows, whose values need not be packed.
  bool few_rows(const AttentionUnit& unit) const {
    return unit.groups() == 1 && kernels.few_rows_tile != nullptr && work.value % 32 == 0;
  }
  void write(const AttentionUnit& unit, const SoftmaxState& state) const {
    write_outputs(work, unit, state, few_rows(unit));
  }
  void merge(const AttentionUnit& unit, const SoftmaxState& into, const SoftmaxState& later) const;
  void fold_tile(const AttentionUnit& unit, int64_t part, int64_t begin, int64_t end, const SoftmaxState& state,
                 int thread) const;
  void unit_by_unit() const;
  void split_by_split() const;
  bool worth_splitting() const;
};

void Run::merge(const AttentionUnit& unit, const SoftmaxState& into, const SoftmaxState& later) const {
  if (!few_rows(unit)) {
    kernels.merge(
        {unit.all_groups(), into.columns, work.scale, into.max, into.sum, into.out, later.max, later.sum, later.out});
    return;
  }
  for (int64_t p = 0; p < unit.parts; ++p) {
    const int64_t row = p * kAttentionRows, out = row * into.columns;
    kernels.few_rows_merge({unit.rows, into.columns, work.scale, into.max + row, into.sum + row, into.out + out,
                            later.max + row, later.sum + row, later.out + out});
  }
}

// Folds keys begin .. of one tile, before `end`, into the rows of the unit's part `part`.
void Run::fold_tile(const AttentionUnit& unit, int64_t part, int64_t begin, int64_t end, const SoftmaxState& state,
                    int thread) const {
  const int64_t n = std::min(kKeyTile, end - begin), row = part * unit.groups() * kAttentionRows;
  const KeyTile tile = keys.load(*unit.chunk, unit.part + part, begin, n, unit.keys(work), thread);
  AttentionTileArgs args{};
  args.q = packed(thread) + row * words;
  args.groups = unit.groups();
  args.words = words;
  args.scale = work.scale;
  std::copy_n(tile.k, kKeyTile / kAttentionRows, args.k);
  args.k_stride = tile.k_stride;
  args.k_scales = tile.k_scales;
  args.v_scales = tile.v_scales;
  args.valid = reinterpret_cast<const int32_t*>(valid.row(thread));
  args.max = state.max + row;
  args.sum = state.sum + row;
  args.out = state.out + row * state.columns;
  std::copy_n(tile.next_k, kKeyTile / kAttentionRows, args.next_k);
  std::copy_n(tile.next_v, kKeyTile / kAttentionRows, args.next_v);
  args.next_k_lines = tile.next_k_lines;
  args.next_v_lines = tile.next_v_lines;
  if (few_rows(unit)) {
    // Behind the last key any row will do: its weight is 0.
    std::fill(tile.v_rows + n, tile.v_rows + kKeyTile, tile.v_rows[0]);
    args.v_rows = tile.v_rows;
    args.rows = unit.rows;
    args.columns = state.columns;
    kernels.few_rows_tile(args);
  } else {
    auto* packed_values = reinterpret_cast<uint32_t*>(panels.row(thread));
    kernels.values({tile.v_rows, work.value, tile.v_scales, packed_values});
    args.v = packed_values;
    args.panels = state.columns / 16;
    kernels.tile(args);
  }
}

// Folds the keys of one split into a fresh state.
void Run::fold_split(const AttentionUnit& unit, int64_t split, const SoftmaxState& state, int thread) const {
  state.reset(unit.all_groups());
  auto* visible = reinterpret_cast<int32_t*>(valid.row(thread));
  const int64_t all = unit.keys(work), first = split * work.split_keys;
  const int64_t end = work.split_keys == 0 ? all : std::min(all, first + work.split_keys);
  for (int64_t begin = first; begin < end; begin += kKeyTile) {
    for (int64_t r = 0; r < unit.groups() * kAttentionRows; ++r) {
      const int64_t position = unit.chunk->position + unit.token(work, std::min(r, unit.rows - 1));
      visible[r] = static_cast<int32_t>(std::clamp<int64_t>(position + 1 - begin, 0, kKeyTile));
    }
    for (int64_t part = 0; part < unit.parts; ++part) fold_tile(unit, part, begin, end, state, thread);
  }
}

// Every thread takes whole units, the longest first.
void Run::unit_by_unit() const {
  const ArenaScope scope(ctx.arena);
  const Tensor states = ctx.arena.tensor(ctx.pool.num_threads(), SoftmaxState::floats(units.max_rows(), work.value));
  const Tensor partial = ctx.arena.tensor(states.rows, states.cols);
  ctx.pool.parallel_for(units.size(), [&](int64_t index, int thread) {
    const AttentionUnit unit = units.at(units.size() - 1 - index);
    const SoftmaxState sums = state(states.row(thread)), later = state(partial.row(thread));
    pack(unit, thread);
    fold_split(unit, 0, sums, thread);
    for (int64_t split = 1; split < splits(unit); ++split) {
      fold_split(unit, split, later, thread);
      merge(unit, sums, later);
    }
    write(unit, sums);
  });
}

// Every thread takes splits; after each wave of them the finished units are joined, in order of their splits.
void Run::split_by_split() const {
  const ArenaScope scope(ctx.arena);
  const int64_t slots = num_slots(ctx.pool.num_threads());
  const Tensor states = ctx.arena.tensor(slots + 2, SoftmaxState::floats(units.max_rows(), work.value));
  int32_t *unit_of = ctx.arena.ints(slots), *split_of = ctx.arena.ints(slots), *runs = ctx.arena.ints(slots + 1);
  // What an unfinished unit has so far: read by this wave, written for the next.
  float *carried = states.row(slots), *carry = states.row(slots + 1);
  int64_t unit = 0, split = 0;
  while (unit < units.size()) {
    int64_t count = 0, num_runs = 0;
    for (; count < slots && unit < units.size(); ++count) {
      if (count == 0 || split == 0) runs[num_runs++] = static_cast<int32_t>(count);
      unit_of[count] = static_cast<int32_t>(unit);
      split_of[count] = static_cast<int32_t>(split);
      if (++split == splits(units.at(unit))) split = 0, ++unit;
    }
    runs[num_runs] = static_cast<int32_t>(count);
    // Neighbours together: the next split's keys are fetched while this one's are folded.
    const int64_t together = std::max<int64_t>(1, count / (6 * ctx.pool.num_threads()));
    ctx.pool.parallel_for((count + together - 1) / together, [&](int64_t task, int thread) {
      int64_t packed_unit = -1;
      for (int64_t slot = task * together; slot < std::min(count, (task + 1) * together); ++slot) {
        const AttentionUnit of = units.at(unit_of[slot]);
        if (unit_of[slot] != packed_unit) pack(of, thread);
        packed_unit = unit_of[slot];
        fold_split(of, split_of[slot], state(states.row(slot)), thread);
      }
    });
    ctx.pool.parallel_for(num_runs, [&](int64_t run, int) {
      int64_t slot = runs[run];
      const AttentionUnit of = units.at(unit_of[slot]);
      const bool begins = split_of[slot] == 0, ends = split_of[runs[run + 1] - 1] + 1 == splits(of);
      float* memory = begins ? states.row(slot++) : carried;
      for (; slot < runs[run + 1]; ++slot) merge(of, state(memory), state(states.row(slot)));
      if (ends) {
        write(of, state(memory));
      } else {
        std::copy_n(memory, states.cols, carry);
      }
    });
    std::swap(carried, carry);
  }
}

// Whole units leave threads idle when one of them is more than half of a thread's share.
bool Run::worth_splitting() const {
  if (work.split_keys == 0 || ctx.pool.num_threads() == 1) return false;
  int64_t longest = 0, all = 0;
  for (int64_t i = 0; i < units.size(); ++i) {
    const AttentionUnit unit = units.at(i);
    const int64_t cost = unit.all_groups() * unit.keys(work);
    longest = std::max(longest, unit.keys(work) > work.split_keys ? cost : 0);
    all += cost;
  }
  return 2 * longest * ctx.pool.num_threads() > all;
}

}  // namespace

int64_t rows_of_unit(int64_t value) { return std::clamp<int64_t>(32768 / ((value + 15) / 16 * 16) / 32 * 32, 32, 256); }

void run_attention(OpContext& ctx, const AttentionWork& work, const AttentionKernels& kernels, const KeySource& keys,
                   std::span<const ChunkView> chunks) {
  if (chunks.empty()) return;
  const ArenaScope scope(ctx.arena);
  const AttentionUnits units(ctx.arena, work, chunks, ctx.pool.num_threads());
  const int threads = ctx.pool.num_threads();
  const int64_t words = query_words(kernels, work.head);
  const Run run{ctx,
                work,
                kernels,
                keys,
                units,
                words,
                ctx.arena.tensor(threads, units.max_rows() * words),
                ctx.arena.tensor(threads, work.head + 1),
                ctx.arena.tensor(threads, units.max_rows()),
                ctx.arena.tensor(threads, kKeyTile * ((work.value + 15) / 16 * 16))};
  if (run.worth_splitting()) {
    run.split_by_split();
  } else {
    run.unit_by_unit();
  }
}

int64_t run_attention_floats(int64_t head, int64_t value, int64_t unit_rows, int64_t chunks, int threads) {
  const int64_t rows = (unit_rows + kAttentionRows - 1) / kAttentionRows * kAttentionRows;
  const int64_t slots = num_slots(threads);
  const int64_t a_thread = rows * (head + 1) + head + 32 + kKeyTile * (value + 16);
  return chunks + threads * a_thread + std::max<int64_t>(2 * threads, slots + 2) * SoftmaxState::floats(rows, value) +
         3 * slots + 16 * 16;
}

}  // namespace redoubt
