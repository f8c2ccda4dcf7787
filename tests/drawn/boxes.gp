reset
set encoding utf8
if (!exists("suffix")) suffix = ''
if (!exists("formats")) formats = 'svg png pdf'
do for [format in formats] {
if (format eq 'svg') { set terminal svg size 171,360 font 'sans-serif,8' fontscale 1.33333 linewidth 1.33333 background '#ffffff'; symbol = 1.5 }
if (format eq 'png') { set terminal pngcairo size 356,750 font 'sans-serif,8' fontscale 2.08333 linewidth 2.77778 pointscale 2.77778; symbol = 1 }
if (format eq 'pdf') { set terminal pdfcairo size 1.7778in,3.7500in font 'sans-serif,8' fontscale 0.75 linewidth 2; symbol = 1 }
set output 'boxes'.'.'.format.suffix
set lmargin at screen 0.40625
set rmargin at screen 0.92188
set tmargin at screen 0.96296
set bmargin at screen 0.33333
unset key
set border 3 linewidth 0.5
set tics out nomirror scale 0.5 font ',6.5'
set grid ytics linecolor rgb '#dddddd' linewidth 0.5
set yrange [0:1]
set boxwidth 0.55
set style fill solid 0.25
set xtics rotate by 90 right ('one' 0, 'none' 1, 'two' 2) noenhanced
set xrange [-0.7:2.7]
set ylabel 'H' noenhanced font ',7' offset 1,0
plot 'boxes.tsv' using 1:3:2:6:5 with candlesticks whiskerbars 0.5 linewidth 0.8 linecolor rgb '#0072b2', '' using 1:4:4:4:4 with candlesticks linewidth 1.6 linecolor rgb '#0072b2'
unset output
}
