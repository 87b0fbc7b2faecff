"""The defects that tools/mutate_kernels plants: a fixed table of operators, and their places in the sources."""

import collections
import hashlib
import itertools
import re

KERNELS = r"\.cuh?$"
HOST = r"\.(?:cc|h)$"
ALL = ""
# Names that say how many there are of something.
SIZES = (r"(?:row|column|end|limit|vocab|count|key|token|step|item|rows|left|target|size|bytes|used|last|unit|vector|"
         r"pieces|pairs|groups|strip|thread|blocks|elements|seen|present|k[A-Z]|n|k)\w*")
SIZE = rf"(?:\w+(?:\.|->|::))*{SIZES}\b(?!\.|->|::)(?:\(\))?(?!\()"
WHOLE_CALL = object()  # the match is a call's name: what is replaced reaches to the end of its arguments


def swap_pair(match):
    """[i] and the neighbour that shares its register pair."""
    return f"{match.group(1)}[{int(match.group(2)) ^ 1}]"


def turned_copy(match, arguments):
    other = "Host" if match.group(1) == "Device" else "Device"
    to, source = (f"const_cast<void*>(static_cast<const void*>({arguments[i]}))" for i in (1, 0))
    return f"CopyTo{other}Async({to}, {source}, {', '.join(arguments[2:])})"


def nothing(match, arguments):
    return "LaunchStatus{}"


# Kind (the class of defect in the report), name, files, pattern, replacement. A pattern is applied to code
# without comments and strings; each place where it matches is a mutant.
OPERATORS = [
    ("barrier", "barrier removed", KERNELS, r"\b(?:sync_(?:threads|warp)|SyncGroup)\(\);", ";"),
    ("barrier", "barrier of half the threads", KERNELS, r"\bnamed_barrier\(([^,;]+), ([^;]+)\);",
     r"named_barrier(\1, \2 / 2);"),
    ("barrier", "fence removed", KERNELS, r"\bthread_fence\(\);", ";"),
    ("wait", "wait for copies removed", KERNELS, r"\bcp_async_wait<[^>]*>\(\);", ";"),
    ("wait", "one copy group too few waited for", KERNELS, r"\bcp_async_wait<([^>]*)>\(\)", r"cp_async_wait<(\1) + 1>()"),
    ("wait", "copy group not closed", KERNELS, r"\bcp_async_commit\(\);", ";"),
    ("predicate", "copy not predicated", KERNELS, r"(\bcp_async(?:16|4)\([^;]*), [^,;]+\);", r"\1, true);"),
    ("predicate", "early return removed", KERNELS, r"\bif \([^;{}]*\) (?:return|continue|break);", ";"),
    ("predicate", "predicate dropped", ALL, r" && [^&|?;{},()]+(?:\([^()]*\)[^&|?;{},()]*)*(?=\)* ?[{;,?]|\) \w)", ""),
    ("predicate", "either for both", ALL, r" && ", " || "),
    ("predicate", "both for either", ALL, r" \|\| ", " && "),
    ("predicate", "test turned round", ALL, r" (==|!=) ", lambda m: " != " if m.group(1) == "==" else " == "),
    ("bound", "bound one too far", ALL, rf" < ({SIZE})(?! \?)", r" <= \1"),
    ("bound", "bound one too near", ALL, rf" < ({SIZE})(?! \*)", r" < \1 - 1"),
    ("bound", "division rounds down", ALL, r"\(([\w.>\[\]()-]+(?: \* [\w.()]+)?) \+ [\w.()* ]+ - 1\) / ", r"(\1) / "),
    ("bound", "division rounds down", ALL, r"\bCeilDiv\(([^,()]+), ([^,()]+)\)", r"((\1) / (\2))"),
    ("bound", "one more", ALL, r" \+ 1\b(?!\.)", " + 2"),
    ("bound", "one not taken off", ALL, r" - 1\b(?!\.)(?!\) / )", ""),
    ("bound", "largest for smallest", ALL, r"\bstd::(min|max)\b", lambda m: "std::max" if m.group(1) == "min" else "std::min"),
    ("bound", "largest for smallest", ALL, r"\b([\w.\[\]]+) (<|>) ([\w.\[\]]+(?: [*+] [\w.\[\]]+)*) \? (?:\1 : \3|\3 : \1)",
     lambda m: m.group(0).replace(" < ", " @ ").replace(" > ", " < ").replace(" @ ", " > ")),
    ("mask comparison", "comparison includes equality", ALL, r" > (?!0\b)(?![^;&|]* \? )(\w)", r" >= \1"),
    ("mask comparison", "comparison excludes equality", ALL, r" (<|>)= (\w)", r" \1 \2"),
    ("stride", "row's stride", ALL, r"\* ((?:\w+\.)+\w*stride\w*(?:\[0\])?)", r"* (\1 + 8)"),
    ("stride", "index divided by twice as much", KERNELS, 
     r" / (\d+|kWarpSize|S::kChunks|kChunks|kRunsPerRow|kPageBlock|kIntStrip|p_?\.(?:op\.)?\w+)\b(?!\()", r" / (2 * \1)"),
    ("stride", "index taken modulo twice as much", KERNELS, 
     r" % (\d+|kWarpSize|S::kChunks|kChunks|kRunsPerRow|kPageBlock|kIntStrip|kStages|p_?\.(?:op\.)?\w+)\b(?![(.]| [!=]= 0)",
     r" % (2 * \1)"),
    ("stride", "alignment half as strict", ALL, r" % (4|8|16|kRun|kAlignment)( [!=]= 0)", r" % (\1 / 2)\2"),
    ("stride", "index one further", ALL, r"\[(i|k|m|n|e|row|at|slice|warp|key|page|block|head|next)\]", r"[\1 + 1]"),
    ("fragment order", "fragments swapped", KERNELS, 
     r"(\b(?:four|r|a|b|d|w|sums|acc|out|out_|o|s|p|at|folded_)(?:\[[^\[\]]+\])*)\[([0-3])\](?! *=[^=])", swap_pair),
    ("fragment order", "fragment's transpose", KERNELS, r"\bldmatrix_x4(_trans)?\(",
     lambda m: "ldmatrix_x4(" if m.group(1) else "ldmatrix_x4_trans("),
    ("fragment order", "fragment's rows", KERNELS, r"\blane_? % (8|16)\b", r"(lane_id() % \1 ^ 1)"),
    ("fragment order", "halves packed the other way", KERNELS, r"\bpack2<(\w+)>\(([^,()]+|\w+\([^()]*\)), ([^,()]+|\w+\([^()]*\))\)",
     r"pack2<\1>(\3, \2)"),
    ("fragment order", "swizzle dropped", KERNELS, r"\(chunk \^ \([^()]*(?:\([^()]*\)[^()]*)*\)\)", "(chunk)"),
    ("rescale", "sum not rescaled", KERNELS, r" \*= before;", " *= 1.0f;"),
    ("rescale", "split joined unweighed", KERNELS, r"\bw\.(?:before|split)\b", "1.0f"),
    ("rescale", "sum forgets what was there", KERNELS, r" \+= ", " = "),
    ("rescale", "sign", ALL, r" \+= ", " -= "),
    ("rescale", "fused sum's addend dropped", KERNELS, r"\bfma_rn\(([^;()]*(?:\([^()]*\)[^;()]*)*), ([\w.]+)\)", r"fma_rn(\1, 0.0f)"),
    ("rescale", "added to nothing", KERNELS, r"\bfadd_rn\(([\w.\[\]]+), (?!-)", r"fadd_rn(0.0f * \1, "),
    ("scale", "scale dropped", ALL, 
     r" \* (?:p\.(?:op\.)?|op\.)?(?:scale|gate|rescale|correction|alpha|factor|inverse\w*|weight\.v\[i\])\b(?!\()", ""),
    ("scale", "scale dropped", KERNELS, 
     r"\bfmul_rn\(([\w.\[\]+]+), (?:p\.(?:op\.)?|p_\.|group\.|w\.)?(?:scale\w*|row_scale|split)\)", r"(\1)"),
    ("scale", "scale of the neighbour", ALL, r"\b((?:scales|minima)\[)(\w+)\]", r"\1\2 ^ 1]"),
    ("page index", "page's entry", KERNELS, r"\bldg\((p_?\.(?:op\.)?(?:table|copies|slots|positions|ids|rows|items) \+ )", r"ldg(\g<1>1 + "),
    ("page index", "page's size", ALL, r"\* ((?:p_?|geometry|layout|p\.op\.layout)\.(?:blocks_per_page|word_rows\(\)|steps\(\)|page_elements\(\)))",
     r"* (\1 + 1)"),
    ("page index", "place in the page", KERNELS, r" % (p_?\.(?:page_tokens|blocks_per_page|tile_blocks))\b", r" % (\1 + 1)"),
    ("reduction", "reduction skips a step", KERNELS, r"\bkWarpSize / 2;", "kWarpSize / 4;"),
    ("reduction", "atomic adds nothing", KERNELS, r"\b(atomic_add(?:_shared)?)\(([^;]*), [^,;()]+\)", r"\1(\2, 0u)"),
    ("event wait", "event not waited for", HOST, r"\b(?:WaitForEvent|SynchronizeEvent)\(", (WHOLE_CALL, nothing)),
    ("event wait", "event not recorded", HOST, r"\bRecordEvent\(", (WHOLE_CALL, nothing)),
    ("event wait", "host does not wait", HOST, r"\bcuda::Synchronize\(", (WHOLE_CALL, nothing)),
    ("copy direction", "copy in the other direction", HOST, r"\bCopyTo(Device|Host)Async\(", (WHOLE_CALL, turned_copy)),
    ("copy direction", "copy skipped", HOST, r"\b(?:CopyTo(?:Device|Host)|Fill)Async\(", (WHOLE_CALL, nothing)),
    ("copy direction", "gather for scatter", ALL, r"\bMoveKind::k(Gather|Scatter)\b(?=,)",
     lambda m: f"MoveKind::k{'Scatter' if m.group(1) == 'Gather' else 'Gather'}"),
]
# Defects that any code may have.
PLAIN_KINDS = ("bound", "predicate", "stride")
MOST_PLAIN = 4  # of one operator in one file
# No place for a defect: what the compiler checks; declarations; the shapes of tiles, which no result depends on
# (tests/cuda/counters.json and tools/cuda_limits.json hold them); and launchers' return where there is nothing to do, for an
# empty grid starts nothing either.
NO_PLACE = re.compile(r"\bstatic_assert\b|\btemplate <|\bTESSERA_BOUNDS\b|\b(?:inline|static) constexpr\b|"
                      r"^ *(?:float|u?int\d*(?:_t)?|Fragments<kN>) [\w\[\]:<>, ]*;|"
                      r"\bif \([\w.]+ == \S+(?: \|\| [\w.]+ == \S+)?\) return \{\};")


class Mutant:
    def __init__(self, kind, operator, file, begin, end, text, replacement):
        self.kind, self.operator, self.file = kind, operator, file
        self.line = text.count("\n", 0, begin) + 1
        line_begin = text.rfind("\n", 0, begin) + 1
        line_end = text.find("\n", end)
        self.before = text[line_begin:line_end].strip()
        self.after = (text[line_begin:begin] + replacement + text[end:line_end]).strip()
        self.source = text[:begin] + replacement + text[end:]
        self.digest = hashlib.sha256(self.source.encode()).hexdigest()[:16]
        # Does not change when code above it does.
        where = hashlib.sha256(" ".join(self.before.split()).encode()).hexdigest()[:8]
        self.key = f"{file}: {operator}: {where}"


def blank(text):
    """Comments and strings as spaces, so that patterns meet code alone."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|^#[^\n]*', re.S | re.M)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group(0)), text)


def arguments_of(code, begin):
    """The arguments of a call whose first begins there, and where the call ends."""
    depth, at, parts = 1, begin, [""]
    while depth > 0:
        char = code[at]
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 1:
            parts.append("")
        elif depth > 0:
            parts[-1] += char
        at += 1
    return [" ".join(part.split()) for part in parts], at


def left_out(code):
    """Where checks of programmer errors stand, and names for types."""
    return ([(m.start(), arguments_of(code, m.end())[1]) for m in re.finditer(r"\bTESSERA_CHECK\(", code)] +
            [m.span() for m in re.finditer(r"\busing \w+ =[^;]*;", code)])


def places(file, text):
    """Operator -> its mutants of a file."""
    code = blank(text)
    spans = left_out(code)
    headers = [(m.start(), arguments_of(code, m.end())[1]) for m in re.finditer(r"\bfor \(", code)]
    found, seen, sources = collections.defaultdict(list), collections.Counter(), set()
    for kind, name, files, pattern, replacement in OPERATORS:
        if not re.search(files, file):
            continue
        some = []
        for match in re.finditer(pattern, code):
            begin, end = match.span()
            if isinstance(replacement, tuple):
                arguments, end = arguments_of(code, end)
                new = replacement[1](match, arguments)
            else:
                new = replacement(match) if callable(replacement) else match.expand(replacement)
            line = code[code.rfind("\n", 0, begin) + 1:code.find("\n", end)]
            if new == code[begin:end] or NO_PLACE.search(line) or any(b <= begin < e for b, e in spans):
                continue
            if kind == "rescale" and any(b <= begin < e for b, e in headers):  # a counter, not a sum
                continue
            mutant = Mutant(kind, name, file, begin, end, text, new)
            if mutant.digest in sources:
                continue
            sources.add(mutant.digest)
            seen[mutant.key] += 1
            mutant.key += f".{seen[mutant.key]}"
            some.append(mutant)
        found[name] += some
    return found


def spread(items, most):
    """`most` of them, evenly."""
    if len(items) <= most:
        return items
    return [items[i * len(items) // most] for i in range(most)]


def find_mutants(folder, most_plain):
    """Of the files in `most_plain`: every place where what is planted only kernels and their host code can get wrong, and
    so many others at most, one of each operator in turn, the rarest first."""
    by_file = {file: places(file, (folder / file).read_text()) for file in most_plain}
    total = collections.Counter()
    for found in by_file.values():
        for name, some in found.items():
            total[name] += len(some)
    mutants = []
    for file, found in by_file.items():
        names = sorted(found, key=lambda name: (total[name], name))
        mutants += [m for name in names for m in found[name] if m.kind not in PLAIN_KINDS]
        lists = [spread([m for m in found[name] if m.kind in PLAIN_KINDS], MOST_PLAIN) for name in names]
        in_turn = [m for turn in itertools.zip_longest(*lists) for m in turn if m is not None]
        mutants += in_turn[:most_plain[file]]
    return mutants
