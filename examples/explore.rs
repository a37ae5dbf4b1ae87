fn main() {
    tch::set_num_threads(1);
    use tickets::manifest::*;
    use tickets::task::*;
    let arg = |i: usize, d: f64| std::env::args().nth(i).and_then(|a| a.parse().ok()).unwrap_or(d);
    let names: Vec<Vec<String>> = vec!["Ada Ben Cleo Dan Eve Finn Gus Hana Ivo Jan Kai Lea Max Nia Otto Pia Quin Rosa Sam Tess Uma Vera Will Xena Yara Zoe".split(' ').map(String::from).collect()];
    let pool = &names[0];
    let mut c = tickets::counter::Counter::new(5, "rows", &[]);
    let rows: Vec<Vec<String>> = (0..20000)
        .map(|_| {
            let mut r = pool.clone();
            c.shuffle(&mut r);
            r.truncate(5);
            r
        })
        .collect();
    let n = arg(3, 4.0) as u32;
    let spec = AlphabetSortSpec {
        min_turns: 1,
        max_turns: 1,
        min_names_per_turn: n,
        max_names_per_turn: n,
        sort_by: SortBy::First,
        similarity_power: 4,
        power_per_turn: true,
        names: NamesSpec::Shipped,
        prompts: PromptTemplates {
            first: "{{ names | join(', ') }}".into(),
            second: "{{ names }}".into(),
            later: "{{ names }}".into(),
        },
    };
    let task = Task::new(&TaskSpec::AlphabetSort(spec), NameSource::Rows(rows)).unwrap();
    let ep = task.episode(0, "train", 0).unwrap();
    println!("{:?}\n{}", ep.turns[0].prompt, task.demonstration(&ep, 0));
    let p = PretrainSpec {
        hidden_size: 128,
        intermediate_size: 352,
        layers: 4,
        heads: 4,
        kv_heads: 2,
        vocab_size: arg(2, 512.0) as u32,
        steps: arg(1, 200.0) as u32,
        batch: 64,
        lr: 2e-3,
        shuffled: 0.6,
        target_reward: 0.9,
        seed: 0,
    };
    let t = std::time::Instant::now();
    let w = tickets::torch::warm_start(
        &p,
        &task,
        tch::Device::Cpu,
        &|s, m| {
            if s % 50 == 0 {
                println!("{s} {m} {:?}", t.elapsed())
            }
        },
        &|| false,
    )
    .unwrap()
    .unwrap();
    println!("{}", w.meta);
}
