//! Frames and plain values from one kernel to another, whole.

use std::path::Path;

use crate::packages::{fail, notebook, run, with_uv};

/// Frames of every kind that is hard to carry, and how to tell that nothing of one is lost.
const FRAMES: &str = "
import json
import pandas as pd
import pandas.testing
def made():
    index = pd.MultiIndex.from_tuples([('a', 1), ('b', 2), ('b', 3)], names=['k', 'n'])
    return pd.DataFrame({
        'category': pd.Categorical(['x', None, 'y'], categories=['y', 'x', 'z'], ordered=True),
        'zone': pd.to_datetime(['2026-01-01', None, '2026-07-01']).tz_localize('Europe/Oslo').as_unit('us'),
        'naive': pd.to_datetime(['2026-01-01 12:00:00.123456', None, '2026-07-01'], format='ISO8601').as_unit('us'),
        'span': pd.to_timedelta([1, None, 3], unit='s').as_unit('us'),
        'whole': pd.array([1, None, 3], dtype='Int64'),
        'yes': pd.array([True, None, False], dtype='boolean'),
        'number': [0.5, None, float('inf')],
        'text': ['é', '', None],
        'bytes': [b'\\xff', b'', None],
        5: [1, 2, 3],
    }, index=index)
";

#[tokio::test]
async fn frames_and_values_go_between_kernels_whole() {
    let gateway = with_uv().await;
    let kernel = notebook(&gateway, "a.ipynb", "pip").await;
    let mut a = gateway.connect(&kernel, "a").await;
    let before = listing(&gateway.root());
    run(&mut a, "%pip install -q pandas polars pyarrow").await;
    run(
        &mut a,
        "%%venv old --with pandas==2.1.4 'numpy<2'\nimport pandas; print(pandas.__version__)",
    )
    .await;
    run(&mut a, &format!("{FRAMES}\ndf, series, values = made(), made()['zone'], {{'a': [1, 2.5, 'é', None, True]}}")).await;

    // pyarrow is not there, so it is added to that environment, and that is said.
    let said = run(&mut a, &format!(
        "%%venv old --get df,series values --put back,many\n{FRAMES}\nassert list(df.dtypes) == list(made().dtypes), (df.dtypes, made().dtypes)\npandas.testing.assert_frame_equal(df, made())\n\
         pandas.testing.assert_series_equal(series, made()['zone'])\n\
         assert values == {{'a': [1, 2.5, 'é', None, True]}}\nback, many = df, values\nprint('the same')"
    )).await;
    assert!(said.contains("Successfully installed pyarrow"), "{said}");
    assert!(said.ends_with("the same\n"), "{said}");
    run(
        &mut a,
        "pandas.testing.assert_frame_equal(back, made())\nassert many == values",
    )
    .await;
    run(&mut a, "del back\n%get back, series --from old").await;
    run(&mut a, "pandas.testing.assert_frame_equal(back, made())\npandas.testing.assert_series_equal(series, made()['zone'])").await;

    // polars, arrow and arrays, in both directions, into an environment without pandas.
    run(&mut a, "import polars as pl, pyarrow as pa, numpy as np, datetime
p = pl.DataFrame({'c': pl.Series(['x', None, 'y'], dtype=pl.Categorical), 'n': [1, None, 3],
                  't': pl.Series([datetime.datetime(2026, 1, 1)] * 3).dt.replace_time_zone('Asia/Tokyo')})
t = pa.table({'d': pa.array(['a', None, 'a']).dictionary_encode(), 'l': [[1], [], None]})
m = np.arange(6.0).reshape(2, 3)").await;
    run(&mut a, "%%venv bare --with polars numpy pyarrow --get p t m df --put p2,t2,m2,df2\np2, t2, m2, df2 = p, t, m, df\nprint(type(p).__module__, type(df).__module__)").await;
    run(&mut a, "assert p2.equals(p) and p2.schema['t'] == p.schema['t'], (p2, p)\nassert t2.equals(t) and t2.schema.equals(t.schema)\nassert (m2 == m).all() and m2.dtype == m.dtype").await;
    let kinds = run(
        &mut a,
        "%%venv bare\nprint(type(p).__module__.split('.')[0], type(df).__module__.split('.')[0])",
    )
    .await;
    assert_eq!(kinds, "polars polars\n");

    // What cannot go is said, and nothing has come of it.
    run(&mut a, "class C: pass\nc, loop, none_such, deep, pair = C(), [], 1, [], [(), ()]\nfor _ in range(100_000): deep = [deep]\nloop.append(loop)\nlazy = p.lazy()\ndel none_such").await;
    for (name, why) in [
        ("c", "c is a C: frames of pandas"),
        ("loop", "itself"),
        ("deep", "too deep"),
        ("lazy", "only what is collected"),
        ("none_such", "name 'none_such' is not defined"),
    ] {
        let said = fail(&mut a, &format!("%put {name} --to bare")).await;
        assert!(said.contains(why), "{name}: {said}");
        let said = fail(&mut a, &format!("%%venv bare --get {name}\nprint('run')")).await;
        assert!(said.contains(why), "{name}: {said}");
    }
    let said = fail(&mut a, "%get none_such --from bare").await;
    assert!(
        said.contains("In bare: name 'none_such' is not defined"),
        "{said}"
    );
    run(&mut a, "%put pair --to bare").await;
    assert_eq!(run(&mut a, "%%venv bare\nprint(pair)").await, "[[], []]\n");
    // Nothing is held, nothing lies about.
    let held = "import os; print(sum('memfd:nb-' in os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')))";
    assert_eq!(run(&mut a, held).await, "0\n");
    assert_eq!(run(&mut a, &format!("%%venv bare\n{held}")).await, "0\n");
    assert_eq!(listing(&gateway.root()), before);
}

/// What is in the folder that notebooks work in.
fn listing(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
