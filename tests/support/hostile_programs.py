# ruff: noqa: RUF001 - what looks alike and is not is the point
"""Programs that must be refused or fail, in little time and memory: what a model could write, or who made its weights.

Each is a model's text. `Answer` is assigned in all of them, so that it is what comes before that must not work.
"""

from collections.abc import Sequence


def text_of(*steps: str) -> str:
    """The model's text of a program that would answer 1 if its steps did nothing."""
    answered = steps if any("Answer" in step for step in steps) else (*steps, "Answer=1")
    return "\n".join(f"<step>{step}</step>" for step in answered)


def each(*steps: str) -> list[str]:
    return [text_of(step) for step in steps]


def repeated(first: str, step: str, times: int, last: str = "Answer=1") -> str:
    return text_of(first, *[step] * times, last)


def _python_functions() -> list[str]:
    calls = (
        *("eval('1')", "exec('x=1')", "compile('1', 'a', 'eval')", "open('/etc/passwd')", "input()", "print(1)"),
        *(
            "globals()",
            "locals()",
            "vars()",
            "dir()",
            "getattr(np, 'load')",
            "setattr(np, 'sum', 1)",
            "delattr(np, 'sum')",
        ),
        *("breakpoint()", "exit()", "quit()", "help()", "memoryview(1)", "bytearray(10**9)", "bytes(10**9)", "type(1)"),
        *("object()", "super()", "id(1)", "hash('a')", "isinstance(1, int)", "callable(1)", "iter([1])", "next([1])"),
        *("map(abs, [1])", "filter(abs, [1])", "chr(65)", "ord('a')", "hex(1)", "format(1, '1000000000d')", "repr(1)"),
        *(
            "ascii(1)",
            "pow(2, 10**9)",
            "divmod(1, 2)",
            "slice(1)",
            "frozenset([1])",
            "complex(1, 2)",
            "staticmethod(1)",
        ),
        *("__import__('os')", "__build_class__()", "copyright()", "hasattr(1, 'real')", "issubclass(1, 2)"),
    )
    return each(*(f"Answer={call}" for call in calls))


def _imports() -> list[str]:
    return each(
        "import os",
        "import numpy as np",
        "import os as np",
        "import os, sys",
        "import numpy.ctypeslib",
        "from os import system",
        "from os import *",
        "from . import x",
        "from __future__ import annotations",
        "Answer=1; import os",
        "Answer=__import__('os').system('id')",
        "Answer=[__import__('os')][0].getcwd()",
        "Answer=importlib.import_module('os')",
        "Answer=os.system('id')",
        "Answer=sys.exit(1)",
    )


def _attribute_walks() -> list[str]:
    values = ("1", "1.5", "'a'", "[]", "()", "{}", "{1}", "True", "None", "np", "np.sum", "np.array([1])", "len", "Y")
    walks = (".__class__", ".__class__.__mro__[1].__subclasses__()", ".__init__.__globals__", ".__dict__")
    return [text_of("Y=[1,2]", f"Answer=({value}){walk}") for value in values for walk in walks] + each(
        "Answer=().__class__.__bases__[0]",
        "Answer=[].append.__self__",
        "Answer=np.sum.__module__",
        "Answer=np.array([1]).__array_interface__",
        "Answer=np.array([1]).ctypes",
        "Answer=np.array([1]).data",
        "Answer=np.array([1]).tofile('/tmp/x')",
        "Answer=np.array([1]).dump('/tmp/x')",
        "Answer=(1).real",
        "Answer=(1).bit_length()",
        "Answer=(1).to_bytes(10**9, 'big')",
        "Answer=(1.5).hex()",
        "Answer=(x for x in [1]).gi_frame",
        "Answer=[x for x in [1]].__iter__()",
        "__builtins__",
        "Answer=__builtins__['eval']",
        "Answer=__name__",
        "__class__=1",
        "Answer=np",
        "f=np.sum",
        "f=len",
        "Answer=np.sum",
    )


def _format_walks() -> list[str]:
    return each(
        "Answer='{0.__class__}'.format(1)",
        "Answer='{0:1000000000}'.format(1)",
        "Answer='{}'.format_map({})",
        "Answer=str.format('{0.__class__}', 1)",
        "Answer=f'{1}'",
        "Answer=f'{__import__(1)}'",
        "Answer=f'{1:{10**9}}'",
        "Answer=rf'{1}'",
        "Answer='%s' % 1",
        "Answer='%1000000000d' % 1",
        "Answer='%(a)s' % {'a': 1}",
        "Answer='%*d' % (10**9, 1)",
        "Answer='a'.join(['b'] * 1000)",
        "Answer='a'.center(10**9)",
        "Answer='a'.ljust(10**9)",
        "Answer='a'.zfill(10**9)",
        "Answer='\\t'.expandtabs(10**9)",
        "Answer='a'.encode('idna')",
        "Answer='a'.translate({97: 'b' * 1000})",
        "Answer='a'.maketrans({})",
        "Answer=b'a'",
        "Answer=b'a'.decode()",
        "Answer=r'a'",
        "Answer=u'a'",
        "Answer='''a'''",
        'Answer="""a"""',
    )


def _numpy_functions() -> list[str]:
    calls = (
        *("load('/etc/passwd')", "save('/tmp/x', [1])", "fromfile('/etc/passwd')", "memmap('/etc/passwd')"),
        *("zeros(10**9)", "ones(10**9)", "empty(10**9)", "full(10**9, 1)", "arange(10**9)", "linspace(0, 1, 10**9)"),
        *(
            "eye(10**5)",
            "identity(10**5)",
            "tile([1], 10**9)",
            "repeat([1], 10**9)",
            "outer([1], [1])",
            "kron([1], [1])",
        ),
        *(
            "meshgrid([1], [1])",
            "random.rand(10**9)",
            "linalg.svd([[1]])",
            "fft.fft([1])",
            "ctypeslib.load_library('c', '.')",
        ),
        *(
            "lib.format.open_memmap('x')",
            "testing.rundocs()",
            "vectorize(eval)",
            "frompyfunc(eval, 1, 1)",
            "loadtxt('x')",
        ),
        *(
            "genfromtxt('x')",
            "savetxt('x', [1])",
            "fromstring('1', sep=' ')",
            "frombuffer('1')",
            "info('x')",
            "source(1)",
        ),
        *(
            "broadcast_to([1], 10**9)",
            "einsum('i,j', [1], [1])",
            "convolve([1], [1])",
            "pad([1], 10**9)",
            "resize([1], 10**9)",
        ),
        *("f2py.compile('x')", "core.multiarray", "sys.exit()", "os.system('id')", "ndarray((10**9,))", "dtype('O')"),
        *(
            "matrix('1')",
            "bmat('x')",
            "r_[0:10**9]",
            "mgrid[0:10**9]",
            "array([1], dtype=object)",
            "array([1], ndmin=10**9)",
        ),
        *(
            "sum([1], out=[1])",
            "sum([1], where=[True])",
            "where([1], [1])",
            "array([[1], [2]])",
            "sum([[1], [2]])",
            "array([None])",
        ),
        *("array([{}])", "add.reduce([1])", "add.outer([1], [1])", "add.at([1], [0], 1)", "float64(1)", "vstack([1])"),
        *("__builtins__", "__config__", "set_printoptions()", "seterr(all='raise')", "seterrcall(1)", "errstate()"),
    )
    return each(*(f"Answer=np.{call}" for call in calls), "Answer=numpy.load('x')", "np=1", "numpy=[1]", "np,x=1,2")


def _ranges() -> list[str]:
    sizes = ("2001", "10**6", "10**9", "2**63", "10**18", "10**300")
    uses = ("list(range({}))", "sum(range({}))", "len(range(-{}, 0))", "[x for x in range(0, {}, 1)]", "set(range({}))")
    return each(*(f"Answer={use.format(size)}" for size in sizes for use in uses)) + each(
        "Answer=range(0, -10**9, -1)",
        "Answer=range(1, 5, 0)",
        "Answer=range(1.5)",
        "Answer=range('a')",
        "Answer=range()",
        "Answer=enumerate(range(10**7))",
        "Answer=zip(range(10**7), range(10**7))",
        "Answer=[1 for x in range(2000) for y in range(2000)]",
        "Answer=reversed(range(10**8))",
    )


def _powers() -> list[str]:
    return [
        *each(
            *(f"Answer={base}**{exponent}" for base in (2, 7, -3, "(10**300)") for exponent in (1100, 10**6, 10**12))
        ),
        *each(
            *(f"Answer={tower}" for tower in ("9**9**9", "2**2**2**2**2**2", "10**10**10", "-9**9**9", "9**9**9**9**9"))
        ),
        *each(*(f"Answer=np.power({base}, {exponent})" for base in (10, 99) for exponent in (400, 10**9))),
        *each(
            "Answer=np.power(np.power(9, 9), np.power(9, 9))",
            "Answer=np.power([10, 10], [10**5, 10**6])",
            "Answer=np.array([2])**np.array([10**9])",
            "Answer=np.array([2, 3])**5000",
            "Answer=np.prod([10**100]*20)",
            "Answer=np.prod(range(1, 400))",
            "Answer=np.prod([2]*2000)",
            "Answer=np.multiply(10**300, 10**300)",
            "Answer=10**200*10**200",
            "Answer=np.square(10**200)",
            "Answer=np.cumsum([2**1023, 2**1023, 2**1023])",
            "Answer=sum([2**1023]*100)",
            "Answer=2.0**10000",
            "Answer=1e308**2",
            "Answer=(-8)**0.5",
            "Answer=0**-1",
            "Answer=np.exp(1000)",
            "Answer=np.exp(10**300)",
            "Answer=1<<10**9",
            "Answer=1>>1",
            "Answer=round(5, -10**9)",
            "Answer=round(5, -31)",
            "Answer=round(1.5, 10**300)",
            "Answer=np.round(1.5, 10**9)",
            "Answer=np.around([1.5], -10**9)",
        ),
        repeated("x=10", "x=x*x", 40),
        repeated("x=10", "x*=x", 30),
        repeated("x=3", "x**=x", 10),
        repeated("x=10", "x=np.multiply(x, x)", 40),
        repeated("x=[7]", "x=np.square(x)", 40),
        repeated("x=np.array([7, 9])", "x=x*x", 40),
        repeated("x=2**1000", "x=x+x", 60),
        repeated("x=2**1000", "x=x-(-x)", 60),
    ]


def _nesting() -> list[str]:
    found = []
    for depth in (13, 60, 100, 500, 1300):
        for opened, closed in ("()", "[]", "{}"):
            found.append(text_of(f"Answer={opened * depth}1{closed * depth}"))
            found.append(text_of(f"Answer={opened * depth}"))
    for times in (70, 400, 1300):
        for before, after in (
            *(
                ("-", ""),
                ("~", ""),
                ("- ", ""),
                ("", "+1"),
                ("", "**1"),
                ("", "*1"),
                ("", ".a"),
                ("", "()"),
                ("", "[0]"),
            ),
        ):
            found.append(text_of(f"Answer={before * times}1{after * times}"))
    for times in (70, 400):
        for before, after in (
            ("not ", ""),
            ("", " if 1 else 0"),
            ("lambda:", ""),
            ("await ", ""),
            ("", " or 0 if 1 else 0"),
        ):
            found.append(text_of(f"Answer={before * times}1{after * times}"))
    for part in ("lambda a,b:", "lambda *a,b=1:", "lambda a,b=lambda c,d:", "[1],await "):
        found.append(text_of(f"Answer={part * 300}1"))
    for part in ("np.sum(", "abs(", "{**", "[*", "f(**", "[x for x in ", "(yield ", "x[", "1 if (", "{1:"):
        found.append(text_of(f"Answer={part * 13}"))
        found.append(text_of(f"Answer={part * 300}"))
    return found


def _memory() -> list[str]:
    bombs = [
        repeated("x='a'", "x=x+x", 40),
        repeated("x='a'", "x+=x", 60),
        repeated("x='ab'", "x=x*10", 12),
        repeated("x='a'", "x=x.replace('a', 'aaaaaaaaaa')", 20),
        repeated("x='x'", "x=x.replace('', 'xx')", 30),
        repeated("x=[1]", "x=x+x", 40),
        repeated("x=[1]", "x+=x", 60),
        repeated("x=(1,)", "x=x+x", 40),
        repeated("x=[1]", "x=x*100", 12),
        repeated("x=[1]", "x=[x,x]", 60),
        repeated("x=[1]", "x=[x]*100", 12),
        repeated("x=[]", "x=[x,x,x,x,x,x,x,x,x,x]", 12),
        repeated("x=()", "x=(x,x,x,x,x,x,x,x,x,x)", 12),
        repeated("x={}", "x={1:x,2:x,3:x,4:x}", 12),
        repeated("x=1", "x={'a': x}", 30),
        repeated("x=[1]", "x=list(zip(x, x))", 20),
        repeated("x=[1]", "x=list(enumerate([x, x]))", 20),
        repeated("x=[1]", "x=[x for y in range(100)]", 12),
        repeated("x=[1]", "x=[x + x for y in range(100)]", 12),
        repeated("x=[1]", "[x.append(y) for y in range(500)]", 8),
        repeated("x=['a']", "x=x+[y+y for y in x]", 40),
        text_of(*(f"x{n}=['{'b' * 900}'+str(y) for y in range(1500)]" for n in range(150))),
        text_of(*(f"x{n}=[y*1.5 for y in range(1900)]" for n in range(150))),
        text_of("x=[0]*1000", "x=[x]*1000"),
        text_of("x=[[0]*50]*50", "y=[x]*50", "Answer=y==y"),
        text_of("x=[]", "y=[x]*1000", "[x.append(z) for z in range(1000)]", "Answer=y==[x]*1000"),
        text_of("x=[]", "y=[x]*1000", "[x.append(z) for z in range(1000)]", "Answer=sorted(y)"),
        text_of("x=[]", "y=[[x]*30]*30", "[x.append(z) for z in range(900)]", "Answer=y"),
    ]
    whole = (
        "[0]*10**9",
        "[[0]*10**4]*10**4",
        "'a'*10**9",
        "(1,)*10**9",
        "10**9*[0]",
        "10**9*'a'",
        "[0]*2001",
        "'a'*1001",
    )
    more = (
        *(
            "{x for x in range(300)}",
            "{x: 1 for x in range(300)}",
            "set(range(257))",
            "dict(zip(range(257), range(257)))",
        ),
        *("sum([[1], [2]], [])", "['a'*1000 for x in range(2000)]", "[[0]*100 for x in range(100)]", "'ß'.upper()*600"),
        *("list('a'*1001)", "('a'*999).replace('a', 'b'*999)", "('a '*500).split()*5", "np.array(['a'*1000])*10**9"),
        *("str([0]*2000)", "'a'*10**300", "[0]*10**300", "str([1])", "[0.0]*2000+[1]"),
    )
    return bombs + each(*(f"Answer={value}" for value in (*whole, *more)))


def _characters() -> list[str]:
    return each(
        "ｉｍｐｏｒｔ os",
        "Answer=ｅｖａｌ('1')",
        "Answer=𝐥𝐞𝐧([1])",
        "Answer=np.ｓum([1])",
        "Аnswer=1; Answer=Аnswer",
        "Answer=x\u200b",
        "Answer=1\u200d",
        "Answer=\u202e1",
        "Answer='a\u202eb'",
        "Answer=\u00a01",
        "Answer=1\u2028",
        "Answer=1\u2029",
        "Answer='a\u2028b'",
        "\ufeffAnswer=1",
        "Answer=٣",
        "Answer=1٣",
        "Answer=²",
        "Answer=int('٣')",
        "Answer=float('１')",
        "Answer=x\u0301",
        "Answer='\ud800'",
        "Answer=\ud800",
        "Answer='\ue000'",
        "Answer='\\N{LATIN SMALL LETTER A}'",
        "Answer='\\x41'",
        "Answer='\\u0041'",
        "Answer='\\101'",
        "Answer='\\a'",
        "Answer=1\\",
        "Answer=\\1",
        "Answer='a\\",
        "Answer=1\0",
        "Answer='\0'",
        "Answer='a\tb'",
        "Answer=1 # \0",
        "Answer=1 # \ud800",
        "Answer=1\x0c+1",
        "Answer=1\x0b+1",
        "Answer=1\r+1",
        "Answer='a\rb'",
        "Answer=1\x1a",
        "Answer=1\x7f",
        "Answer=1\x85",
        "Answer=$1",
        "Answer=1?",
        "Answer=`1`",
        "Answer=!1",
        "Answer='a",
        'Answer="a',
        "Answer='a\"",
        "Answer=“a”",
        "Answer=1 − 1",
        "Answer=1 × 1",
    )


def _statements() -> list[str]:
    return each(
        "while True: pass",
        "while True: Answer=1",
        "for x in range(10): Answer=x",
        "for x in [1]: x=x",
        "if True: Answer=1",
        "if 1: Answer=1",
        "def f(): return f()",
        "def Answer(): pass",
        "class Answer: pass",
        "with open('x') as Answer: pass",
        "try: Answer=1",
        "del np",
        "del Answer",
        "global Answer",
        "nonlocal Answer",
        "assert 0",
        "raise SystemExit",
        "raise",
        "return 1",
        "yield 1",
        "Answer=yield",
        "Answer=(yield from [1])",
        "Answer=lambda: 1",
        "Answer=(lambda f: f(f))(lambda f: f(f))",
        "async def Answer(): pass",
        "Answer=await 1",
        "Answer=[x async for x in [1]]",
        "Answer=(y:=1)",
        "Answer=[(y:=x) for x in [1]]",
        "*Answer,=[1]",
        "Answer=[*range(10)]",
        "Answer={**{}}",
        "Answer=max(*[1,2])",
        "Answer=max(**{})",
        "Answer: int = 1",
        "Answer: int",
        "match 1: case 1: Answer=1",
        "@staticmethod",
        "pass",
        "break",
        "continue",
        "Answer=1 is 1",
        "Answer=1 is not None",
        "Answer=~1",
        "Answer=1^1",
        "Answer=[1]@[1]",
        "Answer=...",
        "Answer=1j",
        "Answer=0x10",
        "Answer=0b1",
        "Answer=0o7",
        "Answer=1_",
        "Answer=1__0",
        "Answer=1if 1 else 0",
        "Answer=1.if 1 else 0",
        "Answer=1.or 0",
        "Answer=1.5if 1 else 0",
        "Answer=5.mean()",
        "Answer=007",
        "x[0]=1",
        "x.y=1",
        "Answer=[1]; Answer[0]=2",
        "a,(b,c)=1,(2,3)",
        "x+=1",
        "(x)[0]+=1",
        "Answer={x for x in [1]}",
        "Answer={x: x for x in [1]}",
        "Answer=[x.y for x.y in [1]]",
        "Answer=[y for y[0] in [1]]",
        "Answer=[np for np in [1]]",
        "Answer=[1 for __x in [1]]; __x=1",
        "Answer=",
        "=1",
        "Answer=)",
        "Answer=(]",
        "Answer=1 2",
        "<b>Answer=1</b>",
        "```python",
        ">>> Answer=1",
        "Answer==1=2",
    )


def _hashes() -> list[str]:
    prime = "(2**61-1)"
    return each(
        f"Answer=len(set([x*{prime} for x in range(2000)]))",
        f"Answer=dict([(x*{prime}, 1) for x in range(1000)])",
        f"Answer=dict(zip([x*{prime} for x in range(900)], range(900)))",
        f"s=set([x*{prime} for x in range(250)]); Answer=[x*{prime} in s for x in range(2000) for y in range(2000)]",
        f"Answer=[set([x*{prime} for x in range(250)]) for y in range(1000)]",
        f"d=dict([(x*{prime}, 1) for x in range(250)]); Answer=[d.get(-x) for x in range(2000) for y in range(99)]",
        "Answer={[1]: 2}",
        "Answer={{}}",
        "Answer={np.array([1])}",
        "Answer={1: 2}[[1]]",
        "Answer=set([set([1])])",
    )


def _sorts() -> list[str]:
    return each(
        "Answer=[sorted(range(2000)) for x in range(2000)]",
        "Answer=[np.sort(range(2000)) for x in range(2000)]",
        "Answer=[np.median(range(2000)) for x in range(2000)]",
        "Answer=[np.unique([y % 7 for y in range(1000)]) for x in range(2000)]",
        "x=['a'*900+str(y) for y in range(300)]; Answer=[sorted(x) for y in range(2000)]",
        "x=[[0]*40+[y] for y in range(40)]; Answer=[max(x) for y in range(2000)]",
        "x=[[[[[0]*9]*9]*9]*9]*9; Answer=sorted(x)",
        "Answer=sorted([1, 'a'])",
        "Answer=sorted([[1], 1])",
        "Answer=sorted([None, 1])",
        "Answer=sorted([np.array([1]), np.array([2])])",
        "Answer=sorted([1], key=len)",
        "Answer=max([1], key=abs)",
        "Answer=max({'a': 1}, key={'a': 1}.get)",
        "Answer=np.sort([np.nan, 1])",
        "Answer=np.max([1, np.nan])",
        "Answer=np.maximum(1, np.nan)",
        "x=[3,1]; Answer=[x.sort() for y in range(2000) for z in range(2000)]",
        "x='ab'*500; Answer=['ba'*400+'c' in x for y in range(2000) for z in range(20)]",
        "x='a'*1000; Answer=[x.replace('aa', 'a') for y in range(2000)]",
        "x=' a'*500; Answer=[x.split() for y in range(2000)]",
        "x=list(range(2000)); Answer=[x.index(1999) for y in range(2000)]",
        "x=list(range(2000)); Answer=[x==list(range(2000)) for y in range(2000)]",
    )


def _recursion() -> list[str]:
    return [
        text_of("x=[1]", "x.append(x)"),
        text_of("x=[1]", "x.append([x])", "Answer=x==x"),
        text_of("x=[1]", "x.append((x,))"),
        text_of("x=[1]", "x.append({1: x})"),
        text_of("x=[1]", "x.append(np.array([1]))"),
        text_of("x=[1]", "x.extend(x)"),
        text_of("x=[1]", "x.insert(0, x)"),
        text_of("x=[1]", "x[0]=x"),
        text_of("x=[1]", "x[:]=[x, x]"),
        text_of("d={}", "d['a']=d"),
        text_of("d={}", "d.update(d)"),
        text_of("d={}", "d.setdefault('a', d)"),
        text_of("x=[1]", "[x.append(y) for y in x]", *["[x.append(y) for y in x]"] * 20),
        text_of("x=[1]", *["x=[x]"] * 190, "Answer=x==x"),
        text_of("x=(1,)", *["x=(x,)"] * 190, "Answer={x}"),
        text_of("x={}", *["x={'a': x}"] * 190, "Answer=x['a']"),
        text_of("x=[1]", *["x=x,"] * 100),
    ]


def _conversions() -> list[str]:
    return each(
        f"Answer={'9' * 311}",
        f"Answer={'9' * 310}",
        f"Answer={'9' * 4000}",
        f"Answer={'1_' * 200}1",
        "Answer=int('9'*1000)",
        "Answer=int('1_'*400+'1')",
        "Answer=float('1_'*400)",
        "Answer=int('a'*900)",
        "Answer=int('0x10')",
        "Answer=int('ff', 16)",
        "Answer=int('')",
        "Answer=int('1.5')",
        "Answer=float('1'*400)",
        "Answer=float('1e999')",
        "Answer=float('nan')",
        "Answer=float('-inf')",
        "Answer=float('infinity')",
        "Answer=float('0x1p3')",
        "Answer=float('1,234')",
        "Answer=float('12%')",
        "Answer=float('')",
        "Answer=float(10**308*10)",
        "Answer=int(1e308*10)",
        "Answer=int(np.nan)",
        "Answer=int([1])",
        "Answer=float(None)",
        "Answer=str(2**1023*2**1023)",
        "Answer=str({1: 2})",
        "Answer=[str(10**300+x) for x in range(2000)]",
        "Answer=1e999",
        "Answer=-1e999",
        "Answer=1e308*10",
        "Answer=np.inf-np.inf",
        "Answer=np.nan",
        "Answer=[1, np.inf]",
        "Answer=np.divide([1, 0], [0, 0])",
        "Answer=10**300/10**-300",
        "Answer=10**300+0.5+10**308*10",
        "Answer=['a'*999]*2",
    )


def _lengths() -> list[str]:
    return [
        text_of("Answer=1" + " " * 5000 + "+1"),
        text_of("Answer=1+" + "1+" * 3000 + "1"),
        text_of("Answer=[" + "1," * 3000 + "]"),
        text_of("Answer='" + "a" * 1001 + "'"),
        text_of("Answer='" + "a" * 600 + "' '" + "a" * 600 + "'"),
        text_of("a" * 311 + "=1"),
        text_of("Answer=1 #" + "a" * 5000),
        text_of("x=1;" * 1200),
        text_of("x=1;" * 1000, *["x=1;" * 1000] * 5),
        text_of(*["x=1"] * 200),
        text_of(*["x=1"] * 5000),
        text_of("Answer=1", *["x=1"] * 1_000_000),
        text_of(*["x=[" + "1," * 1900 + "]"] * 5),
        "<step>" * 100_000,
        "</step>" * 100_000,
        "<step>x=1</step>" * 60_000,
        "<step>" * 10_000,
        "\n" * 1_000_000,
        "a" * 1_000_000,
        "",
        "42",
        "<comment>#x</comment>",
        "<step></step>",
        "<step> </step><step>\t</step>",
        "<step>Answer=1",
        "<step>Answer=1</ste",
        "<STEP>Answer=1</STEP>",
        "<step>Answer=[1,\n2]</step>",
    ]


def _comprehensions() -> list[str]:
    loops = [
        " ".join(f"for x{n} in range({size})" for n in range(depth))
        for depth, size in ((2, 999), (5, 30), (20, 3), (60, 2))
    ]
    return each(*(f"Answer=[1 {loop}]" for loop in loops), *(f"Answer=sum(1 {loop})" for loop in loops)) + each(
        "Answer=[[[x for x in range(99)] for y in range(99)] for z in range(99)]",
        "Answer=[x for x in [y for y in [z for z in range(1500)]] for w in range(1500)]",
        "Answer=[x for x in range(2000) if [y for y in range(2000) if y > x]]",
        "Answer=[x for x in x]",
        "Answer=[x for x in 5]",
        "Answer=[x for x, y in [1]]",
        "Answer=[x for x, y in ['abc']]",
        "Answer=[y for x in [1]]",
        "Answer=[x for x in [1]]; Answer=x",
        "Answer=any(1/0 for x in [1])",
        "Answer=(x for x in range(10**9))",
        "Answer=all(x for x in range(2000) for y in range(2000))",
    )


def _comparisons_and_slices() -> list[str]:
    huge = "10**300"
    return each(
        "Answer=" + "<".join(str(n) for n in range(300)),
        "Answer=" + "==".join(["1"] * 1300),
        "Answer=" + " in ".join(["[1]"] * 700),
        "Answer=[1,2]<3",
        "Answer=1<'a'",
        "Answer={}<{}",
        "Answer={1}<{1,2}",
        "Answer=1 in 1",
        "Answer=1 in 'a'",
        "Answer=[1] in {1}",
        "Answer=np.array([1,2])==np.array([1,2,3])",
        "Answer=1 if np.array([1,2])>1 else 0",
        "Answer=0<np.array([1,2])<3",
        "Answer=not np.array([])",
        "Answer=[np.array([1])]==[np.array([1])]",
        "Answer=[1,2][::0]",
        "Answer='ab'[::0]",
        "Answer=np.array([1])[::0]",
        f"Answer=[1,2][{huge}]",
        f"Answer=[1,2][-{huge}]",
        f"Answer=[1,2][{huge}:]",
        f"Answer=[1,2][{huge}::-{huge}][1]",
        "Answer=[1,2][1.0]",
        "Answer=[1,2]['a']",
        "Answer=[1,2][0:'a']",
        "Answer=[1,2][0:1.5]",
        "Answer=[1,2][0,1]",
        "Answer=[1,2][0:1,0:1]",
        "Answer=np.array([1,2])[:,0]",
        "Answer=np.array([1,2])[None]",
        "Answer=np.array([1,2])[...]",
        "Answer=np.array([1,2])[True]",
        "Answer=np.array([1,2])[[True]]",
        "Answer=np.array([1,2])[[0.5]]",
        "Answer=np.array([1,2])[5]",
        "Answer=5[0]",
        "Answer=None[0]",
        "Answer={1}[0]",
        "Answer={'a': 1}['b']",
        "Answer={'a': 1}[0:1]",
        "Answer={'a': 1}[(1, 2)]",
        "Answer='a'['a']",
    )


def _ordinary_errors() -> list[str]:
    return each(
        *(
            "Answer=1/0",
            "Answer=1//0",
            "Answer=1%0",
            "Answer=1.5%0",
            "Answer=undefined",
            "Answer=answer",
            "answer=1; Answer=x",
        ),
        *("Answer=[1][1]", "Answer=np.mean([])", "Answer=np.max([])", "Answer=np.argmax([])", "Answer=np.median([])"),
        *(
            "Answer=max([])",
            "Answer=min(())",
            "Answer=max(1)",
            "Answer=max(1, 'a')",
            "Answer=sum(['a'])",
            "Answer=sum('ab')",
        ),
        *(
            "Answer=sum(5)",
            "Answer=len(5)",
            "Answer=abs('a')",
            "Answer=abs([1])",
            "Answer=round('a')",
            "Answer=round([1])",
        ),
        *("Answer=np.log(0)", "Answer=np.sqrt(-1)", "Answer=np.add([1, 2], [1, 2, 3])", "Answer=np.add('a', 'b')"),
        *("Answer=np.sum(['a'])", "Answer=np.sum([1], 5)", "Answer=np.sum([1], axis=1)", "Answer=np.sum(1, 2, 3)"),
        *(
            "Answer=np.sum()",
            "Answer=np.std([1], ddof=1)",
            "Answer=[1]-[1]",
            "Answer=[1]*1.5",
            "Answer='a'+1",
            "Answer=None+1",
        ),
        *(
            "Answer=-'a'",
            "Answer=-[1]",
            "Answer=np.array(['a'])*2",
            "Answer=np.array([True])-np.array([True])",
            "Answer=1&2",
        ),
        *("Answer=[1].index(2)", "Answer=(1,).append(2)", "Answer='a'.mean()", "Answer=[1].sum()", "Answer=5.5.mean()"),
        *("Answer='a'.strip(1)", "Answer='a'.split('')", "Answer='a'.replace(1, 2)", "Answer='a'.startswith(('a',))"),
        *("a,b=1", "a,b=[1]", "a,b=[1,2,3]", "a,b='abc'", "sum=1; Answer=sum([1])", "len=[1]; Answer=len(len)"),
        *("Answer=None", "Answer={'a': 1}", "Answer=[]", "Answer=[[1]]", "Answer=[None]", "Answer=[].append(1)"),
        *("Answer=dict([1])", "Answer=dict([[1]])", "Answer=zip()", "Answer=bool(np.array([1, 2]))", "Answer=int(x=1)"),
        *(
            "Answer=sorted([1], True)",
            "Answer=round(1.5, 'a')",
            "Answer=round(1.5, 1, ndigits=1)",
            "Answer=np.exp('a')",
        ),
    )


HOSTILE: dict[str, Sequence[str]] = {
    "functions of Python": _python_functions(),
    "imports": _imports(),
    "attribute walks": _attribute_walks(),
    "format walks": _format_walks(),
    "functions of NumPy": _numpy_functions(),
    "ranges": _ranges(),
    "powers": _powers(),
    "nesting": _nesting(),
    "memory": _memory(),
    "characters": _characters(),
    "statements": _statements(),
    "hashes": _hashes(),
    "sorts": _sorts(),
    "recursion": _recursion(),
    "conversions": _conversions(),
    "lengths": _lengths(),
    "comprehensions": _comprehensions(),
    "comparisons and slices": _comparisons_and_slices(),
    "ordinary errors": _ordinary_errors(),
}
"""By category; no text is there twice."""
